// All tasks that sent members, each with its last run; and the last audits.

import {
  AUDIT,
  LEDGER,
  forEach,
  hasFailed,
  listTroubled,
  listXComs,
  stateOf,
  valueOf,
} from "./api.js";
import { element, section, table } from "./dom.js";
import { asObject, summary } from "./ledger.js";
import { runOf, toTask, viewOf } from "./links.js";
import { many, number, percent, text, time } from "./words.js";

const MAX_TASKS = 60;
const TOO_MANY =
  "There are more runs than this page asks for: only some are counted. Choose fewer weeks.";

/** Show the overview. */
export async function showOverview({ weeks }, page) {
  const [ledgers, troubled] = await Promise.all([listXComs(LEDGER, weeks), listTroubled(weeks)]);
  if (!ledgers.isWhole) page.warn(TOO_MANY);
  const tasks = byTask([...withoutLedger(troubled, ledgers.items), ...ledgers.items]);
  const last = tasks.slice(0, MAX_TASKS);
  const kept = last.filter((entry) => !entry.hasNoLedger);
  await Promise.all([read(kept, LEDGER, page), forEach(kept, readState, () => {})]);
  const none = `No run in ${many(weeks, "week")} has left a ledger that you may see.`;
  page.tell(tasks.length ? "" : none);
  if (tasks.length) page.show(section("Syncs and upserts", tableOfTasks(last, weeks)));
  const isWhole = tasks.length === last.length;
  if (!isWhole) page.warn(`Only ${MAX_TASKS} of ${tasks.length} tasks are shown.`);
  page.show(await audits(weeks, { ...page, tell: () => {} }));
}

/** The last audit of each task, as a section; nothing if there is none. */
export async function audits(weeks, page, dag = "~") {
  const found = byTask((await listXComs(AUDIT, weeks, dag)).items).slice(0, MAX_TASKS);
  if (!found.length) return "";
  await read(found, AUDIT, page);
  const heads = ["Audit", "When", "Wrong", "Most that may be wrong", "Where"];
  const linkTo = (entry) => toTask(nameOf(entry), entry);
  const rows = found.map((entry) => [linkTo(entry), time(entry.run_after), ...boundOf(entry)]);
  return section("Last audits", table("The last audit of each task", heads, rows));
}

function boundOf({ value, problem }) {
  if (problem) return [problem, "", ""];
  const given = Object.entries(asObject(value.fields));
  const fields = given.map(([name, times]) => `${text(name)} ${number(times)}`);
  const confidence = `${percent(value.confidence)} confidence`;
  const bound = `${percent(value.at_most)} of ${number(value.known)} (${confidence})`;
  const wrong = number(value.differ + value.not_found);
  return [`${wrong} of ${number(value.checked)}`, bound, fields.join(", ")];
}

/** Those task instances that left no ledger, such as killed ones. */
function withoutLedger(instances, entries) {
  const keyOf = (run) => JSON.stringify([run.dag_id, run.task_id, run.run_id, run.map_index]);
  const known = new Set(entries.map(keyOf));
  const others = instances.filter((instance) => !known.has(keyOf(instance)));
  return others.map((instance) => ({ ...instance, hasNoLedger: true }));
}

/** The newest entry of each task, with how many values there are; the newest task first. */
function byTask(entries) {
  const tasks = new Map();
  for (const entry of [...entries].sort(newestFirst)) {
    const key = JSON.stringify([entry.dag_id, entry.task_id]);
    const known = tasks.get(key) ?? { ...entry, times: 0 };
    known.times += entry.hasNoLedger ? 0 : 1;
    tasks.set(key, known);
  }
  return [...tasks.values()];
}

function newestFirst(one, other) {
  return new Date(other.run_after) - new Date(one.run_after);
}

async function read(entries, key, page) {
  const tell = (done, all) => page.tell(`Read ${done} of ${all}.`);
  await forEach(entries, (entry) => page.trying(entry, () => valueOf(entry, key)), tell);
}

async function readState(entry) {
  entry.state = await stateOf(entry);
}

function nameOf(entry) {
  const dag = entry.dag_display_name ?? entry.dag_id;
  const task = entry.task_display_name ?? entry.task_id;
  return text(`${dag}: ${task}`);
}

function tableOfTasks(tasks, weeks) {
  const heads = ["Task", "Last run", "What it did", "Ledgers"];
  const rows = tasks.map((entry) => {
    const { dag_id: dag, task_id: task } = entry;
    const link = element("a", { href: viewOf({ dag, task, weeks }) }, nameOf(entry));
    const shard = entry.map_index >= 0 ? ` [${entry.map_index}]` : "";
    const run = element("a", { href: runOf(entry, weeks) }, time(entry.run_after) + shard);
    return [link, run, outcome(entry), number(entry.times)];
  });
  return table("Tasks that sent members, the last one first", heads, rows);
}

function outcome(entry) {
  if (entry.hasNoLedger) return `${text(entry.state)}: no ledger`;
  const state = hasFailed(entry) ? `${text(entry.state)}: ` : "";
  return state + (entry.problem ?? summary(entry.value));
}
