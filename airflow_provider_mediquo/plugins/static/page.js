// Which view is shown: all tasks, one task, or one run, as the page's address says.

import { explained } from "./api.js";
import { element } from "./dom.js";
import { toAirflow, viewOf } from "./links.js";
import { showOverview } from "./overview.js";
import { showRun } from "./run.js";
import { showTask } from "./task.js";
import { many } from "./words.js";

const WEEKS = [1, 4, 12];

/** What views may do to the page. */
const page = {
  tell(line) {
    byId("status").textContent = line;
  },
  warn(line) {
    byId("problems").append(element("p", {}, line));
  },
  show(...sections) {
    byId("content").append(...sections);
  },
  /** Keep a value, or why it cannot be had, in the item that it belongs to. */
  async trying(item, act) {
    try {
      item.value = await act();
    } catch (error) {
      item.problem = explained(error);
    }
  },
};

function byId(id) {
  return document.getElementById(id);
}

function asked() {
  const query = new URLSearchParams(location.search);
  const of = (name) => query.get(name) ?? undefined;
  const weeks = WEEKS.find((known) => String(known) === of("weeks")) ?? 4;
  const map = /^\d{1,9}$/.test(of("map") ?? "") ? Number(of("map")) : undefined;
  return { dag: of("dag"), task: of("task"), run: of("run"), map, weeks };
}

function showPath({ dag, task, run, weeks }) {
  const steps = [toAirflow("Airflow"), element("a", { href: viewOf({ weeks }) }, "mediQuo")];
  if (task) steps.push(element("a", { href: viewOf({ dag, task, weeks }) }, `${dag}: ${task}`));
  if (run) steps.push(run);
  byId("path").append(element("ol", {}, steps.map((step) => element("li", {}, step))));
}

function showWeeks({ dag, task, run, weeks }) {
  if (run) return;
  const items = WEEKS.map((each) => {
    const current = each === weeks ? { "aria-current": "page" } : {};
    const href = viewOf({ dag, task, weeks: each });
    return element("li", {}, element("a", { href, ...current }, many(each, "week")));
  });
  byId("weeks").append(element("ul", {}, items));
}

function titleOf({ dag, task, run, map }) {
  if (!task) return "mediQuo";
  const shard = map === undefined ? "" : ` [${map}]`;
  return run ? `${dag}: ${task}${shard}, ${run}` : `${dag}: ${task}`;
}

/** Take the theme that is chosen in Airflow's UI, which keeps it there; else the system's counts. */
function followTheme() {
  let theme;
  try {
    theme = localStorage.getItem("theme");
  } catch {
    return; // the browser allows no storage
  }
  document.documentElement.className = ["light", "dark"].includes(theme) ? theme : "";
}

async function main() {
  const what = asked();
  const isTask = what.dag && what.task;
  byId("title").textContent = document.title = titleOf(isTask ? what : {});
  showPath(isTask ? what : { weeks: what.weeks });
  showWeeks(isTask ? what : { weeks: what.weeks });
  page.tell("Asking Airflow ...");
  const show = !isTask ? showOverview : what.run ? showRun : showTask;
  await show(what, page);
}

addEventListener("storage", followTheme);
followTheme();
main().catch((error) => {
  page.tell("");
  page.warn(explained(error));
});
