/** Which language the app speaks: the one that was chosen, else the first of the browser's that there is. */
import { speak, type Translation } from "../shared/translator.ts";

export const LANGUAGES = ["en", "de"] as const;
export type Language = (typeof LANGUAGES)[number];
export type Choice = Language | "system";

/** For tests: English in disguise and longer, from left to right and from right to left. */
const DISGUISES = ["en-XA", "ar-XB"];
const KEY = "entobot.language";

const tables: Partial<Record<string, () => Promise<Translation>>> = {
  de: async () => (await import("./strings.de.ts")).translation,
  "en-XA": async () => (await import("./disguise.ts")).disguised(),
  "ar-XB": async () => (await import("./disguise.ts")).disguised(),
};

export function chosen(): Choice {
  const stored = read();
  return LANGUAGES.find((one) => one === stored) ?? "system";
}

/** Takes hold when the page is loaded anew, which is left to the caller. */
export function choose(choice: Choice): void {
  try {
    if (choice === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, choice);
  } catch {
    // A locked-down browser keeps to its own language.
  }
}

/** Before the first sentence. Without its sentences (offline, and never loaded) a language is left for English. */
export async function start(): Promise<void> {
  const wanted = present();
  const load = tables[wanted];
  if (load === undefined) return;
  try {
    speak(await load(), navigator.languages.find((tag) => tag.split("-")[0] === wanted) ?? wanted);
  } catch {
    return;
  }
  document.documentElement.lang = wanted;
  document.documentElement.dir = wanted.startsWith("ar") ? "rtl" : "ltr";
}

function present(): string {
  const stored = read();
  if (stored !== null && (DISGUISES.includes(stored) || LANGUAGES.some((one) => one === stored))) return stored;
  return navigator.languages.map((tag) => tag.split("-")[0]!).find((tag) => LANGUAGES.some((one) => one === tag)) ?? "en";
}

function read(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}
