// One run: its ledger in words and as a picture, and where to read on.

import { ApiError, LEDGER, listTasks, valueOf } from "./api.js";
import { legend, wideBar } from "./charts.js";
import { element, section, table } from "./dom.js";
import {
  KINDS,
  asObject,
  isDryRun,
  parts,
  planCounts,
  rejects,
  sentences,
  unsubscribed,
} from "./ledger.js";
import { toAirflow, toTask } from "./links.js";
import { UNSUBSCRIBED_CAPTION, tableOfRejects } from "./task.js";
import { number, text } from "./words.js";

const NO_LEDGER =
  "This run has left no ledger: it still runs, was killed, failed before it began to read, or has " +
  "do_xcom_push=False. See its log.";

/** Show a run. */
export async function showRun({ dag, task, run, map }, page) {
  const entry = { dag_id: dag, task_id: task, run_id: run, map_index: map };
  const [ledger, tasks] = await Promise.all([ledgerOf(entry), listTasks(dag, run)]);
  page.tell("");
  page.show(state(tasks, entry));
  if (ledger) page.show(...told(ledger));
  else page.warn(NO_LEDGER);
  page.show(links(entry, tasks));
}

async function ledgerOf(entry) {
  try {
    return await valueOf(entry, LEDGER);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

function state(tasks, { task_id: task, map_index: map }) {
  const found = tasks.find((each) => each.task_id === task && each.map_index === (map ?? -1));
  if (!found?.state) return "";
  const tried = number(found.try_number);
  return element("p", {}, `The task is in the state ${text(found.state)}, in try ${tried}.`);
}

function told(ledger) {
  const by = new Map([...parts(ledger)].filter(([, value]) => value));
  const kinds = [...KINDS].filter(([kind]) => by.has(kind));
  const rows = kinds.map(([kind, label]) => [label, number(by.get(kind))]);
  const lines = sentences(ledger).map((line) => element("p", {}, line));
  return [
    section("What it did", ...lines),
    section(
      "Records",
      legend(kinds),
      wideBar(by, "What happened to the records"),
      table("Records", ["What", "Records"], rows),
    ),
    tableOfRejects(rejects([ledger])),
    plans(ledger),
    facts("Files and state", paths(ledger)),
    facts(
      isDryRun(ledger) ? "What would be sent, and where" : "What was sent, and where",
      receipt(asObject(ledger.receipt)),
    ),
  ];
}

function plans(ledger) {
  const by = planCounts(ledger);
  const rows = unsubscribed([ledger]).map(([name, label]) => [label, number(by.get(name))]);
  if (!rows.length) return "";
  return section("Unsubscribed", table(UNSUBSCRIBED_CAPTION, ["What", "Patients"], rows));
}

function paths(ledger) {
  const sync = asObject(ledger.sync);
  return [
    ["Reject report", ledger.rejects_path],
    ["List of the unsubscribed", ledger.unsubscribed_path],
    ["Sync", sync.name],
    ["Connection of the state", sync.state_conn_id],
  ];
}

function receipt({ fields, recipient, version, key }) {
  const names = Array.isArray(fields) ? fields.map(text).join(", ") : fields;
  return [
    ["Fields", names],
    ["Recipient", recipient],
    ["Version of the provider", version],
    ["Key", key],
  ];
}

function facts(heading, pairs) {
  const given = pairs.filter(([, value]) => text(value));
  if (!given.length) return "";
  const items = given.flatMap(([name, value]) => [
    element("dt", {}, name),
    element("dd", {}, element("code", {}, text(value))),
  ]);
  return section(heading, element("dl", {}, items));
}

function links(entry, tasks) {
  const sensors = tasks.filter(({ operator_name: name }) => name === "MediquoPatientSensor");
  const stateOf = (task) => text(task.state ?? "not started");
  const nameOf = (task) => `The sensor ${text(task.task_id)} (${stateOf(task)})`;
  const items = [
    toTask("The log of this task", entry),
    toAirflow("The whole run", "dags", entry.dag_id, "runs", entry.run_id),
    ...sensors.map((sensor) => toTask(nameOf(sensor), sensor)),
  ];
  return section("In Airflow", element("ul", {}, items.map((item) => element("li", {}, item))));
}
