// Asks Airflow's REST API, with the rights of the user who looks at the page: their cookie.

import { asObject } from "./ledger.js";

export const AIRFLOW = new URL("../", document.baseURI);
export const LEDGER = "mediquo_ledger";
export const AUDIT = "mediquo_audit";

const PAGE_SIZE = 100; // the most that Airflow gives at once, if nobody changed it
const MAX_PAGES = 20;
const AT_ONCE = 8;
const TIMEOUT = 30_000; // milliseconds
const FAILED = ["failed", "upstream_failed", "up_for_retry"];
const UPSERTS = [
  "FileToMediquoOperator",
  "MediquoUpsertDecoratedOperator",
  "MediquoUpsertPatientsOperator",
  "SqlToMediquoOperator",
];

/** An answer that is not what was asked for; `status` is 0 if there is none. */
export class ApiError extends Error {
  constructor(status) {
    super(`status ${status}`);
    this.status = status;
  }
}

/** What to tell people about an error. */
export function explained(error) {
  const status = error instanceof ApiError ? error.status : undefined;
  const known = {
    0: "Airflow does not answer. Check your network, then load this page again.",
    401:
      "You are not logged in. Log in to Airflow, then load this page again. " +
      "(This page needs Airflow 3.1.1.)",
    403: "You may not read this. Ask for the right to read the XComs of the DAG in Airflow.",
    404: "Airflow does not have this (any more), or you may not see it.",
  };
  if (status === undefined) return "This page failed. Load it again, or report it as a bug.";
  return known[status] ?? `Airflow answered with an error (${status}). Load this page again later.`;
}

/** Encode one part of an address; `.` and `..` would lead elsewhere. */
export function segment(value) {
  if (value === "." || value === "..") throw new ApiError(404);
  return encodeURIComponent(value);
}

async function get(segments, query = {}) {
  const url = new URL(`api/v2/${segments.map(segment).join("/")}`, AIRFLOW);
  for (const [name, value] of Object.entries(query)) {
    for (const each of [value].flat()) url.searchParams.append(name, each);
  }
  const headers = { Accept: "application/json" };
  let answer;
  try {
    answer = await fetch(url, { headers, signal: AbortSignal.timeout(TIMEOUT) });
  } catch {
    throw new ApiError(0);
  }
  if (!answer.ok) throw new ApiError(answer.status);
  try {
    return asObject(await answer.json());
  } catch {
    throw new ApiError(0);
  }
}

/** Return all items of a list, a page after the other, and whether there are more. */
async function list(segments, query, name) {
  const items = [];
  for (let page = 0; page < MAX_PAGES; page++) {
    const limits = { limit: PAGE_SIZE, offset: items.length };
    const answer = await get(segments, { ...query, ...limits });
    const found = Array.isArray(answer[name]) ? answer[name].map(asObject) : [];
    items.push(...found);
    if (!found.length || items.length >= answer.total_entries) return { items, isWhole: true };
  }
  return { items, isWhole: false };
}

function since(weeks) {
  const start = new Date(Date.now() - weeks * 7 * 24 * 3600 * 1000);
  // Airflow 3.1 does not know the order and gives its own.
  return { run_after_gte: start.toISOString(), order_by: "-run_after" };
}

/** List the XComs of one name that may be read, without their values. */
export async function listXComs(key, weeks, dag = "~", task = "~") {
  const segments = ["dags", dag, "dagRuns", "~", "taskInstances", task, "xcomEntries"];
  const found = await list(segments, { xcom_key: key, ...since(weeks) }, "xcom_entries");
  // The first patches of Airflow 3.1 do not say when the run was: when it was pushed comes close.
  const timed = (entry) => ({ ...entry, run_after: entry.run_after ?? entry.timestamp });
  return { ...found, items: found.items.map(timed) };
}

/** Return the value of an XCom, an object. */
export async function valueOf({ dag_id: dag, run_id: run, task_id: task, map_index: map }, key) {
  const segments = ["dags", dag, "dagRuns", run, "taskInstances", task, "xcomEntries", key];
  const answer = await get(segments, map >= 0 ? { map_index: map } : {});
  return asObject(answer.value);
}

/** List the instances of a task; none if they may not be seen. */
export function listInstances(dag, task, weeks) {
  const query = { task_id: task, ...since(weeks) };
  return instances(["dags", dag, "dagRuns", "~", "taskInstances"], query);
}

/** List the upserts of all DAGs that failed, or still run; none if they may not be seen. */
export function listTroubled(weeks) {
  const query = { operator: UPSERTS, state: [...FAILED, "running"], ...since(weeks) };
  return instances(["dags", "~", "dagRuns", "~", "taskInstances"], query);
}

/** List the task instances of a run; none if they may not be seen. */
export function listTasks(dag, run) {
  return instances(["dags", dag, "dagRuns", run, "taskInstances"], {});
}

/** Return the state of the task instance of an XCom; undefined if it may not be seen. */
export async function stateOf({ dag_id: dag, run_id: run, task_id: task, map_index: map }) {
  const shard = map >= 0 ? [String(map)] : [];
  try {
    return (await get(["dags", dag, "dagRuns", run, "taskInstances", task, ...shard])).state;
  } catch {
    return undefined;
  }
}

/** Whether a task instance is in a state that means failure. */
export function hasFailed({ state }) {
  return FAILED.includes(state);
}

async function instances(segments, query) {
  try {
    const { items } = await list(segments, query, "task_instances");
    return items.map((item) => ({ ...item, run_id: item.dag_run_id })); // as XComs have it
  } catch {
    return [];
  }
}

/** Do something for each item, a few at once; `tell` hears how many are done. */
export async function forEach(items, act, tell) {
  let next = 0;
  let done = 0;
  const work = async () => {
    while (next < items.length) {
      await act(items[next++]);
      tell(++done, items.length);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}
