// The page's language in the person's own region: 24 hours where they are usual.
const LANGUAGE = document.documentElement.lang || "en";
const LOCALE = navigator.languages.find((tag) => tag.split("-")[0] === LANGUAGE) ?? LANGUAGE;

const clock = new Intl.DateTimeFormat(LOCALE, { hour: "numeric", minute: "2-digit" });
const day = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "short" });
const weekday = new Intl.DateTimeFormat(LOCALE, { weekday: "short" });
const weekdayTime = new Intl.DateTimeFormat(LOCALE, { weekday: "short", hour: "numeric", minute: "2-digit" });
const full = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeStyle: "short" });
const date = new Intl.DateTimeFormat(LOCALE, { dateStyle: "long" });

/** The time today, the weekday this week, else the date. */
export function shortTime(value: string | number, now: number): string {
  const then = new Date(value);
  if (Number.isNaN(then.getTime())) return "";
  if (then.toDateString() === new Date(now).toDateString()) return clock.format(then);
  if (now - then.getTime() < 6 * 86_400_000) return weekday.format(then);
  return day.format(then);
}

/** The time, with the weekday unless it is today: for moments of the coming days. */
export function dayTime(value: string | number, now: number): string {
  const then = new Date(value);
  if (Number.isNaN(then.getTime())) return "";
  return (then.toDateString() === new Date(now).toDateString() ? clock : weekdayTime).format(then);
}

export function clockTime(value: string | number): string {
  const then = new Date(value);
  return Number.isNaN(then.getTime()) ? "" : clock.format(then);
}

export function fullTime(value: string | number): string {
  const then = new Date(value);
  return Number.isNaN(then.getTime()) ? "" : full.format(then);
}

export function longDate(value: string | number): string {
  const then = new Date(value);
  return Number.isNaN(then.getTime()) ? "" : date.format(then);
}
