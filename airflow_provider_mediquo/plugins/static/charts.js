// Pictures of numbers, each with a text alternative; a table next to them has it all.

import { element, svg } from "./dom.js";
import { number } from "./words.js";

const HEIGHT = 160;
const TOP = 8;
const LEFT = 76;
const BOTTOM = 20;
const MARK = 6;

/** What the colours mean. */
export function legend(kinds) {
  const items = [...kinds].map(([kind, label]) =>
    element("li", {}, element("span", { class: `swatch ${kind}`, "aria-hidden": "true" }), label),
  );
  return element("ul", { class: "legend" }, items);
}

/**
 * Draw a stacked bar for each run, oldest first.
 *
 * @param runs `{parts: Map(kind -> value), title, day, href, isFailed}`
 * @param show a value as text
 */
export function stackedBars(runs, label, show = number) {
  const width = Math.max(280, Math.min(960, document.getElementById("content").clientWidth));
  const sums = runs.map(({ parts }) => sum(parts));
  const most = ceiling(Math.max(...sums, 1));
  const step = (width - LEFT) / runs.length;
  const height = (value) => (value / most) * (HEIGHT - TOP - BOTTOM);
  const bars = runs.map((run, index) => bar(run, LEFT + index * step, step, height));
  const names = { role: "img", "aria-label": `${label}. The table below has the numbers.` };
  return svg(
    "svg",
    { class: "chart", viewBox: `0 0 ${width} ${HEIGHT}`, ...names },
    axis(width, most, show),
    bars,
    days(runs, width),
  );
}

/** Draw one bar over the whole width. */
export function wideBar(parts, label) {
  const total = Math.max(1, sum(parts));
  let x = 0;
  const pieces = [...parts].map(([kind, value]) => {
    const width = (value / total) * 100;
    const piece = svg("rect", { class: kind, x, y: 0, width, height: 6 });
    x += width;
    return piece;
  });
  const names = { role: "img", "aria-label": `${label}. The table below has the numbers.` };
  return svg("svg", { class: "wide", viewBox: "0 0 100 6", ...names }, pieces);
}

function sum(parts) {
  return [...parts.values()].reduce((total, value) => total + value, 0);
}

/** The next round number: 1, 2 or 5 with zeros. */
function ceiling(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((factor) => factor * unit >= value) * unit;
}

function bar({ parts, title, href, isFailed }, x, step, height) {
  const width = Math.min(40, Math.max(1, step - 2));
  let y = HEIGHT - BOTTOM;
  const pieces = [...parts].filter(([, value]) => value).map(([kind, value]) => {
    const size = Math.max(1, height(value));
    y -= size;
    return svg("rect", { class: kind, x, y, width, height: size });
  });
  // A whole column, so that small bars can be hit too. The table has these links for the keyboard.
  const column = { class: "column", x, y: TOP, width: step, height: HEIGHT - BOTTOM - TOP };
  const mark = isFailed
    ? svg("rect", { class: "failed", x, y: HEIGHT - BOTTOM + 1, width, height: MARK })
    : undefined;
  const shown = [svg("title", {}, title), ...pieces, svg("rect", column), mark];
  return svg("a", { href, tabindex: "-1" }, shown);
}

function axis(width, most, show) {
  const lines = [0, 0.5, 1].map((share) => {
    const y = HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
    return [
      svg("line", { x1: LEFT - 4, x2: width, y1: y, y2: y }),
      svg("text", { x: LEFT - 8, y: y + 4, "text-anchor": "end" }, show(share * most)),
    ];
  });
  return svg("g", { class: "axis" }, lines.flat());
}

function days(runs, width) {
  const y = HEIGHT - 3;
  const first = svg("text", { x: LEFT, y }, runs[0].day);
  const last = svg("text", { x: width, y, "text-anchor": "end" }, runs[runs.length - 1].day);
  return svg("g", { class: "axis" }, runs.length > 1 ? [first, last] : [first]);
}
