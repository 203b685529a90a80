// Makes elements. What comes from a ledger or from Airflow is only ever text or a safe attribute.

const SVG = "http://www.w3.org/2000/svg";
const ATTRIBUTES = new Set([
  ...["class", "id", "href", "scope", "role", "tabindex", "title", "datetime", "colspan"],
  ...["aria-current", "aria-hidden", "aria-label", "aria-labelledby", "aria-describedby"],
  ...["viewBox", "width", "height", "x", "y", "x1", "x2", "y1", "y2", "text-anchor"],
]);

/** Make an element of HTML: `element("p", {class: "note"}, "text", another)`. */
export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** Make an element of SVG. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (!ATTRIBUTES.has(name)) throw new Error(`Not an attribute that is set here: ${name}`);
    if (value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== ""));
  return node;
}

/** Make a table that scrolls sideways on a narrow screen, also with the keyboard. */
export function table(caption, heads, rows) {
  const scroll = { class: "scroll", role: "region", tabindex: "0", "aria-label": caption };
  const kinds = heads.map((_, column) => kindOf(rows.map((row) => row[column])));
  const head = heads.map((text, column) => element("th", { scope: "col", ...kinds[column] }, text));
  const body = rows.map(([first, ...cells]) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, first),
      cells.map((cell, column) => element("td", kinds[column + 1], cell)),
    ),
  );
  return element(
    "div",
    scroll,
    element(
      "table",
      {},
      element("caption", {}, caption),
      element("thead", {}, element("tr", {}, head)),
      element("tbody", {}, body),
    ),
  );
}

/** The attributes of a column: numbers are easier to compare below each other. */
function kindOf(cells) {
  const isNumber = cells.every((cell) => typeof cell === "string" && /^[\d,]*$/.test(cell));
  return isNumber ? { class: "number" } : {};
}

/** Make a section with a heading. */
export function section(heading, ...children) {
  return element("section", {}, element("h2", {}, heading), ...children);
}
