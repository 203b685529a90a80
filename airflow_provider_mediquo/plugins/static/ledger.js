// What a ledger says: the parts that add up to the records read, the rejects, the sentences.

import { count, duration, many, number, text } from "./words.js";

/** What became of a record; `upserted` is split in three if there is a state. */
export const KINDS = new Map([
  ["upserted", "sent"],
  ["new", "new"],
  ["changed", "changed"],
  ["resent", "resent"],
  ["unchanged", "unchanged"],
  ["withheld", "withheld"],
  ["skipped", "skipped"],
  ["rejected", "rejected"],
  ["unsettled", "unsettled"],
]);

/** Who has no plan any more, and who would have none. */
export const UNSUBSCRIBED = new Map([
  ["unsubscribed", "lost their plan"],
  ["without_plan", "sent without a plan"],
  ["withheld", "kept their plan: too many would lose it"],
  ["missing", "left the source"],
  ["missing_unsubscribed", "left, and lost their plan"],
  ["missing_withheld", "left, and kept their plan: too many would lose it, or they may still be in the source"],
  ["missing_unsettled", "left, not confirmed"],
]);
const OF_A_STATE = ["new", "changed", "resent"];

/** Return an object, whatever was in the XCom: Airflow gives its JSON as text. */
export function asObject(value) {
  let found = value;
  try {
    if (typeof value === "string") found = JSON.parse(value);
  } catch {
    found = null;
  }
  return typeof found === "object" && found !== null && !Array.isArray(found) ? found : {};
}

/** Kind -> how many records, in the order of KINDS; together they are all that were read. */
export function parts(ledger) {
  const known = OF_A_STATE.some((kind) => kind in ledger) ? ["upserted"] : OF_A_STATE;
  const kinds = [...KINDS.keys()].filter((kind) => !known.includes(kind));
  return new Map(kinds.map((kind) => [kind, count(ledger[kind])]));
}

/** How long the run sent, and how long it waited for mediQuo's rate limit. */
export function seconds(ledger) {
  const whole = count(ledger.seconds);
  const paused = Math.min(whole, count(ledger.throttled_seconds));
  return new Map([["working", whole - paused], ["paused", paused]]);
}

/** [field, rule, how many], the most frequent first, over some ledgers. */
export function rejects(ledgers) {
  const found = new Map();
  for (const ledger of ledgers) {
    for (const [field, rules] of Object.entries(asObject(ledger.rejects_by_rule))) {
      for (const [rule, times] of Object.entries(asObject(rules))) {
        const key = JSON.stringify([field, rule]);
        found.set(key, (found.get(key) ?? 0) + count(times));
      }
    }
  }
  const rows = [...found].map(([key, times]) => [...JSON.parse(key), times]);
  return rows.sort((one, other) => other[2] - one[2]).slice(0, 50);
}

/** Those of UNSUBSCRIBED that some ledgers have: [name, label]. */
export function unsubscribed(ledgers) {
  return [...UNSUBSCRIBED].filter(([name]) => ledgers.some((ledger) => count(ledger[name])));
}

/** A line for the list of runs. */
export function summary(ledger) {
  return (isDryRun(ledger) ? "dry run: " : "") + outcome(ledger);
}

function outcome(ledger) {
  const shown = [...parts(ledger)].filter(([, value]) => value);
  const words = shown.map(([kind, value]) => `${number(value)} ${KINDS.get(kind)}`);
  return words.join(", ") || "no records";
}

/** Whether the counts are only what would be. */
export function isDryRun(ledger) {
  return ledger.is_dry_run === true;
}

/** The ledger in sentences. */
export function sentences(ledger) {
  const by = parts(ledger);
  const paused = seconds(ledger).get("paused");
  const took = `The run took ${duration(ledger.seconds)}`;
  return [
    isDryRun(ledger) && "This was a dry run: nothing was sent. The counts are what would be.",
    `${many(ledger.read, "record")} read: ${outcome(ledger)}.`,
    by.get("unchanged") &&
      `mediQuo had ${number(by.get("unchanged"))} already; these were not sent.`,
    by.get("unsettled") &&
      `${number(by.get("unsettled"))} unsettled: not sent, or no final answer. ` +
        "The next run sends them again.",
    by.get("withheld") &&
      `${number(by.get("withheld"))} withheld: more would lose their plan than ` +
        "max_unsubscribed allows.",
    count(ledger.omitted) && `${many(ledger.omitted, "record")} sent without an invalid field.`,
    count(ledger.unwritten) &&
      `${many(ledger.unwritten, "line")} missing in the reports: see the log.`,
    paused
      ? `${took}, ${duration(paused)} of it paused by mediQuo's rate limit.`
      : `${took}, without a pause.`,
    `${many(ledger.requests, "request")} sent, ${many(ledger.retries, "retry", "retries")}.`,
    ledger.stopped_because && `It ended early: ${text(ledger.stopped_because)}`,
  ].filter(Boolean);
}
