// What a ledger says: the parts that add up to the records read, the rejects, the sentences.

import { count, duration, many, number, text } from "./words.js";

/** What happened to a record; `upserted` is split in three if there is a state. */
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

/** Who lost a plan, and who did not; the first is the sum of the next two. */
export const UNSUBSCRIBED = new Map([
  ["unsubscribed", "lost their plan, in all"],
  ["by_record", "of these: by a record without one"],
  ["left", "of these: left the source"],
  ["had_none", "have none now, and had none before"],
  ["without_plan", "sent without a plan"],
  ["withheld", "record without a plan not sent, kept their plan"],
  ["missing_withheld", "left, and kept their plan"],
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

/** Name -> how many, as in UNSUBSCRIBED. Without a state nobody knows who had a plan. */
export function planCounts(ledger) {
  if (!("unsubscribed" in ledger)) return new Map([["without_plan", count(ledger.without_plan)]]);
  const [lost, left] = [count(ledger.unsubscribed), count(ledger.missing_had_plan)];
  const without = count(ledger.without_plan) + count(ledger.missing_unsubscribed);
  return new Map([
    ["unsubscribed", lost],
    ["by_record", Math.max(0, lost - left)],
    ["left", Math.min(lost, left)],
    ["had_none", Math.max(0, without - lost)],
    ...["withheld", "missing_withheld", "missing_unsettled"].map((k) => [k, count(ledger[k])]),
  ]);
}

/** Those of UNSUBSCRIBED that some ledgers have: [name, label]. */
export function unsubscribed(ledgers) {
  const found = ledgers.map(planCounts);
  return [...UNSUBSCRIBED].filter(([name]) => found.some((by) => by.get(name)));
}

/** A line for the list of runs. */
export function summary(ledger) {
  const lost = isDryRun(ledger)
    ? [ledger.would_unsubscribe, "would lose their plan"]
    : [ledger.unsubscribed, "lost their plan"];
  const left = ["missing_withheld", "missing_unsettled"].map((name) => [
    ledger[name],
    UNSUBSCRIBED.get(name),
  ]);
  const plans = [lost, ...left].filter(([value]) => count(value));
  const words = plans.map(([value, label]) => `${number(value)} ${label}`);
  return (isDryRun(ledger) ? "dry run: " : "") + [outcome(ledger), ...words].join(", ");
}

function outcome(ledger) {
  const shown = [...parts(ledger)].filter(([, value]) => value);
  const words = shown.map(([kind, value]) => `${number(value)} ${KINDS.get(kind)}`);
  return words.join(", ") || "no records";
}

/** Whether the counts are those that a real run would have. */
export function isDryRun(ledger) {
  return ledger.is_dry_run === true;
}

/** The ledger in sentences. */
export function sentences(ledger) {
  const by = parts(ledger);
  const paused = seconds(ledger).get("paused");
  const took = `The run took ${duration(ledger.seconds)}`;
  return [
    isDryRun(ledger) &&
      "This was a dry run: nothing was sent. The counts are those that a real run would have.",
    `${many(ledger.read, "record")} read: ${outcome(ledger)}.`,
    ...aboutPlans(ledger),
    by.get("unchanged") &&
      `mediQuo had ${number(by.get("unchanged"))} already; these were not sent.`,
    by.get("unsettled") &&
      `${number(by.get("unsettled"))} unsettled: not sent, or no final answer. ` +
        "The next run sends them again.",
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

/** Who lost a plan, in sentences. */
function aboutPlans(ledger) {
  const by = planCounts(ledger);
  const kept = isDryRun(ledger) ? "would keep" : "kept";
  return [
    "unsubscribed" in ledger && lost(ledger, by),
    by.get("without_plan") &&
      `${many(by.get("without_plan"), "patient")} ${isDryRun(ledger) ? "would be " : ""}sent ` +
        "without a plan, which unsubscribes them.",
    by.get("withheld") &&
      `${many(by.get("withheld"), "record")} without a plan withheld: ` +
        `these members ${kept} their plan.`,
    by.get("missing_withheld") &&
      `${many(by.get("missing_withheld"), "member")} left the source, and ${kept} their plan.`,
    by.get("missing_unsettled") &&
      `${many(by.get("missing_unsettled"), "member")} left the source, without a final answer: ` +
        "the next run tries again.",
    ledger.unsubscribed_path && "The list of the unsubscribed, below, has their codes.",
  ];
}

function lost(ledger, by) {
  const verb = isDryRun(ledger) ? "would lose" : "lost";
  if (isBeyondGuard(ledger, by)) {
    const would = isDryRun(ledger) ? "would lose" : "would have lost";
    return (
      `${many(ledger.would_unsubscribe, "member")} ${would} their plan: more than ` +
      `max_unsubscribed allows. Nobody ${verb} it.`
    );
  }
  if (!by.get("unsubscribed")) return `Nobody ${verb} their plan.`;
  return (
    `${many(by.get("unsubscribed"), "member")} ${verb} their plan: ` +
    `${number(by.get("by_record"))} by a record without one, ` +
    `${number(by.get("left"))} because they left the source.`
  );
}

/** Whether all kept their plan because too many would have lost it. */
function isBeyondGuard(ledger, by) {
  const kept = by.get("withheld") + by.get("missing_withheld");
  const would = count(ledger.would_unsubscribe);
  return would > 0 && would <= kept && !by.get("unsubscribed") && !count(ledger.unsettled);
}
