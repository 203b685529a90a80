// Addresses: of this page, and of Airflow's own pages.

import { AIRFLOW, segment } from "./api.js";
import { element } from "./dom.js";

/** The address of a view of this page. */
export function viewOf(query) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined);
  return `?${new URLSearchParams(given)}`;
}

/** The address of a run on this page. */
export function runOf({ dag_id: dag, task_id: task, run_id: run, map_index: map }, weeks) {
  return viewOf({ dag, task, run, map: map >= 0 ? map : undefined, weeks });
}

/** A link to a page of Airflow, which replaces this page and the frame that it is in. */
export function toAirflow(label, ...segments) {
  const link = element("a", {}, label);
  try {
    link.setAttribute("href", new URL(segments.map(segment).join("/"), AIRFLOW).href);
  } catch {
    return label; // an ID that has no address
  }
  link.addEventListener("click", (event) => {
    if (leaveFrame(link.href)) event.preventDefault();
  });
  return link;
}

/** A link to a task instance in Airflow. */
export function toTask(label, { dag_id: dag, run_id: run, task_id: task, map_index: map }) {
  const mapped = map >= 0 ? ["mapped", map] : [];
  return toAirflow(label, "dags", dag, "runs", run, "tasks", task, ...mapped);
}

/**
 * Open an address where Airflow's UI is, if this page is in its frame.
 *
 * The frame's sandbox keeps a link from leaving it, so the link is put for a moment into Airflow's
 * own document, which is of the same origin.
 */
function leaveFrame(href) {
  try {
    if (window.parent === window) return false;
    const link = window.parent.document.createElement("a");
    link.setAttribute("href", href);
    link.setAttribute("target", "_top");
    window.parent.document.body.append(link);
    link.click();
    link.remove();
    return true;
  } catch {
    return false; // framed by another site: the link opens here
  }
}
