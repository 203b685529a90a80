// Numbers, times and texts, in words. Nothing here trusts what a ledger says of itself.

const NUMBER = new Intl.NumberFormat("en");
const PERCENT = new Intl.NumberFormat("en", { style: "percent", maximumSignificantDigits: 2 });
const TIME = new Intl.DateTimeFormat("en-GB", {
  ...{ day: "numeric", month: "short", year: "numeric" },
  ...{ hour: "2-digit", minute: "2-digit", timeZoneName: "short" },
});
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const MAX_TEXT = 2000;

/** A count; 0 for anything else, and never so large that sums are not finite. */
export function count(value) {
  return typeof value === "number" && value > 0 ? Math.min(value, Number.MAX_SAFE_INTEGER) : 0;
}

/** A number for people: 12,345. */
export function number(value) {
  return NUMBER.format(count(value));
}

/** "1 record", "2 records". */
export function many(value, singular, plural = `${singular}s`) {
  return `${number(value)} ${count(value) === 1 ? singular : plural}`;
}

/** Any value as a text of bounded length; empty for none. */
export function text(value) {
  if (value === null || value === undefined) return "";
  const whole = typeof value === "object" ? JSON.stringify(value) : String(value);
  return whole.length > MAX_TEXT ? `${whole.slice(0, MAX_TEXT)} ...` : whole;
}

/** A share: "2.1%". */
export function percent(share) {
  return PERCENT.format(count(share));
}

/** A duration: "3 h 20 min", "4 min 5 s", "0.4 s". */
export function duration(value) {
  const seconds = count(value);
  if (seconds < 10) return `${Math.round(seconds * 10) / 10} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${number(Math.floor(minutes / 60))} h ${minutes % 60} min`;
}

/** A time of Airflow, in the time zone of the browser. */
export function time(value) {
  return formatted(TIME, value);
}

/** The day alone. */
export function day(value) {
  return formatted(DAY, value);
}

function formatted(format, value) {
  const date = new Date(value);
  return Number.isNaN(date.getTime()) ? text(value) : format.format(date);
}
