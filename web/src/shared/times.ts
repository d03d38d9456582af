/** Dates and times in the page's language, as its region writes them: 24 hours where they are usual. */
type Style = "clock" | "day" | "weekday" | "weekdayTime" | "full" | "date";

const STYLES: Record<Style, Intl.DateTimeFormatOptions> = {
  clock: { hour: "numeric", minute: "2-digit" },
  day: { day: "numeric", month: "short" },
  weekday: { weekday: "short" },
  weekdayTime: { weekday: "short", hour: "numeric", minute: "2-digit" },
  full: { dateStyle: "medium", timeStyle: "short" },
  date: { dateStyle: "long" },
};
const made = new Map<Style, Intl.DateTimeFormat>();

/** The language is known when the first time is shown, not when this is loaded. */
function format(style: Style, value: Date): string {
  let one = made.get(style);
  if (one === undefined) {
    const language = document.documentElement.lang || "en";
    one = new Intl.DateTimeFormat(navigator.languages.find((tag) => tag.split("-")[0] === language) ?? language, STYLES[style]);
    made.set(style, one);
  }
  return one.format(value);
}

/** The time today, the weekday this week, else the date. */
export function shortTime(value: string | number, now: number): string {
  const then = new Date(value);
  if (Number.isNaN(then.getTime())) return "";
  if (then.toDateString() === new Date(now).toDateString()) return format("clock", then);
  if (now - then.getTime() < 6 * 86_400_000) return format("weekday", then);
  return format("day", then);
}

/** The time, with the weekday unless it is today: for moments of the coming days. */
export function dayTime(value: string | number, now: number): string {
  const then = new Date(value);
  if (Number.isNaN(then.getTime())) return "";
  return format(then.toDateString() === new Date(now).toDateString() ? "clock" : "weekdayTime", then);
}

export function clockTime(value: string | number): string {
  const then = new Date(value);
  return Number.isNaN(then.getTime()) ? "" : format("clock", then);
}

export function fullTime(value: string | number): string {
  const then = new Date(value);
  return Number.isNaN(then.getTime()) ? "" : format("full", then);
}

export function longDate(value: string | number): string {
  const then = new Date(value);
  return Number.isNaN(then.getTime()) ? "" : format("date", then);
}
