// All tasks that sent members, each with its last run; and the last audits.

import { AUDIT, LEDGER, forEach, hasFailed, listXComs, stateOf, valueOf } from "./api.js";
import { element, section, table } from "./dom.js";
import { asObject, summary } from "./ledger.js";
import { toTask, viewOf } from "./links.js";
import { many, number, percent, text, time } from "./words.js";

const MAX_TASKS = 60;
const TOO_MANY =
  "There are more runs than this page asks for: only some are counted. Choose fewer weeks.";

/** Show the overview. */
export async function showOverview({ weeks }, page) {
  const ledgers = await listXComs(LEDGER, weeks);
  if (!ledgers.isWhole) page.warn(TOO_MANY);
  const tasks = byTask(ledgers.items);
  const last = tasks.slice(0, MAX_TASKS);
  await Promise.all([read(last, LEDGER, page), forEach(last, readState, () => {})]);
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

/** The newest entry of each task, with how many there are; the newest task first. */
function byTask(entries) {
  const tasks = new Map();
  for (const entry of [...entries].sort(newestFirst)) {
    const key = JSON.stringify([entry.dag_id, entry.task_id]);
    const known = tasks.get(key);
    if (known) known.times += 1;
    else tasks.set(key, { ...entry, times: 1 });
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
    const state = hasFailed(entry) ? `${text(entry.state)}: ` : "";
    const did = state + (entry.problem ?? summary(entry.value));
    return [link, time(entry.run_after), did, number(entry.times)];
  });
  return table("Tasks that sent members, the last one first", heads, rows);
}
