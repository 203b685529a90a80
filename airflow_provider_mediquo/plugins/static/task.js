// The last runs of one task: pictures, and a table with the same numbers.

import { LEDGER, forEach, hasFailed, listInstances, listXComs, valueOf } from "./api.js";
import { legend, stackedBars } from "./charts.js";
import { element, section, table } from "./dom.js";
import {
  KINDS,
  isDryRun,
  parts,
  planCounts,
  rejects,
  seconds,
  summary,
  unsubscribed,
} from "./ledger.js";
import { runOf } from "./links.js";
import { audits } from "./overview.js";
import { day, duration, many, number, text, time } from "./words.js";

export const UNSUBSCRIBED_CAPTION = "Patients that lost their plan, or would have";
const MAX_RUNS = 60;
const ALWAYS = ["rejected", "unsettled"];
const TIMES = [["working", "reading and sending"], ["paused", "paused by mediQuo's rate limit"]];

/** Show a task. */
export async function showTask({ dag, task, weeks }, page) {
  const [ledgers, instances] = await Promise.all([
    listXComs(LEDGER, weeks, dag, task),
    listInstances(dag, task, weeks),
  ]);
  const all = merged(ledgers.items, instances);
  const runs = all.slice(-MAX_RUNS);
  const tell = (done, of) => page.tell(`Read ${done} of ${many(of, "ledger")}.`);
  const kept = runs.filter((run) => run.hasLedger);
  await forEach(kept, (run) => page.trying(run, () => valueOf(run, LEDGER)), tell);
  const shown = many(runs.length, "run");
  page.tell(all.length > runs.length ? `The last ${shown} of ${number(all.length)}.` : `${shown}.`);
  if (!runs.length) return;
  page.show(pictures(runs, weeks), ...lists(runs));
  page.show(await audits(weeks, { ...page, tell: () => {} }, dag).catch(() => ""));
  page.show(section("Runs", tableOfRuns(runs, weeks)));
}

/** Runs, oldest first: those that left a ledger, and those that did not, such as killed ones. */
function merged(entries, instances) {
  const runs = new Map();
  const keyOf = (run) => JSON.stringify([run.run_id, run.map_index]);
  for (const each of instances.filter(({ state }) => state)) runs.set(keyOf(each), each);
  for (const entry of entries) {
    runs.set(keyOf(entry), { ...entry, ...runs.get(keyOf(entry)), hasLedger: true });
  }
  return [...runs.values()].sort(oldestFirst);
}

function oldestFirst(one, other) {
  const earlier = new Date(one.run_after) - new Date(other.run_after);
  return earlier || one.map_index - other.map_index;
}

function pictures(runs, weeks) {
  const withState = runs.some(({ value }) => value && "new" in value);
  const kinds = [...KINDS].filter(([kind]) => hasAny(runs, kind));
  const sent = kinds.filter(([kind]) => kind !== "unchanged");
  const failed = runs.some(hasFailed) ? [["failed", "the task failed"]] : [];
  const changes = [
    element("h3", {}, "Without the unchanged"),
    stackedBars(bars(runs, weeks, only(sent)), "Records of each run without the unchanged"),
  ];
  return section(
    "Records",
    legend([...kinds, ...failed]),
    stackedBars(bars(runs, weeks, parts), "Records of each run"),
    ...(withState ? changes : []),
    element("h2", {}, "Duration"),
    legend(TIMES),
    stackedBars(bars(runs, weeks, seconds), "Duration of each run", duration),
  );
}

function hasAny(runs, kind) {
  return runs.some(({ value }) => value && parts(value).get(kind));
}

function only(kinds) {
  return (ledger) => new Map(kinds.map(([kind]) => [kind, parts(ledger).get(kind) ?? 0]));
}

function bars(runs, weeks, partsOf) {
  return runs.map((run) => ({
    parts: run.value ? partsOf(run.value) : new Map(),
    title: `${nameOf(run)}: ${outcome(run)}`,
    day: day(run.run_after),
    href: runOf(run, weeks),
    isFailed: hasFailed(run),
  }));
}

function nameOf(run) {
  const shard = run.map_index >= 0 ? ` [${run.map_index}]` : "";
  return `${time(run.run_after)}${shard}`;
}

function outcome(run) {
  if (run.problem) return run.problem;
  const state = run.state ? `${text(run.state)}, ` : "";
  return run.value ? `${state}${summary(run.value)}` : `${state}no ledger`;
}

function tableOfRuns(runs, weeks) {
  const kinds = [...KINDS].filter(([kind]) => ALWAYS.includes(kind) || hasAny(runs, kind));
  const heads = ["Run", "State", "read", ...kinds.map(([, label]) => label), "Duration", "Paused"];
  const rows = [...runs].reverse().map((run) => {
    const link = element("a", { href: runOf(run, weeks) }, nameOf(run));
    return [link, stateOf(run), ...numbers(run.value, kinds)];
  });
  return table("Each run, the last one first", heads, rows);
}

function stateOf(run) {
  if (run.problem) return run.problem;
  const more = run.value ? (isDryRun(run.value) ? " (dry run)" : "") : " (no ledger)";
  return `${text(run.state)}${more}`;
}

function numbers(ledger, kinds) {
  if (!ledger) return ["", ...kinds.map(() => ""), "", ""];
  const by = parts(ledger);
  const paused = duration(seconds(ledger).get("paused"));
  const counts = kinds.map(([kind]) => number(by.get(kind)));
  return [number(ledger.read), ...counts, duration(ledger.seconds), paused];
}

function lists(runs) {
  const read = runs.filter(({ value }) => value);
  const values = read.map(({ value }) => value);
  return [tableOfRejects(rejects(values)), tableOfUnsubscribed(read, unsubscribed(values))];
}

/** Rejects by field and rule, as a section; nothing if there is none. */
export function tableOfRejects(rows) {
  if (!rows.length) return "";
  const cells = rows.map(([field, rule, times]) => [text(field), text(rule), number(times)]);
  const heads = ["Field", "Rule", "Records"];
  return section("Rejects", table("Rejected records by field and rule", heads, cells));
}

function tableOfUnsubscribed(runs, columns) {
  const some = runs.filter(({ value }) => unsubscribed([value]).length);
  if (!some.length) return "";
  const heads = ["Run", ...columns.map(([, label]) => label)];
  const rows = some.map((run) => {
    const by = planCounts(run.value);
    const counts = columns.map(([name]) => number(by.get(name)));
    return [nameOf(run), ...counts];
  });
  return section("Unsubscribed", table(UNSUBSCRIBED_CAPTION, heads, rows.reverse()));
}
