/**
 * English with accents, in brackets and two fifths longer: what is not in a catalogue stands out, and what has no room
 * is cut. Loaded by tests only.
 */
import { strings as phone } from "../shared/strings.en.ts";
import type { Translation } from "../shared/translator.ts";
import { strings as automations } from "./pages/strings.en.automations.ts";
import { strings as chat } from "./pages/strings.en.chat.ts";
import { strings as memos } from "./pages/strings.en.memos.ts";
import { strings as notifications } from "./pages/strings.en.notifications.ts";
import { strings as things } from "./pages/strings.en.things.ts";

const ACCENTS: Record<string, string> = { a: "á", e: "é", i: "í", o: "ó", u: "ú", A: "Á", E: "É", I: "Í", O: "Ó", U: "Ú", n: "ñ", c: "ç" };

export function disguise(text: string): string {
  const accented = text.replace(/\{\w+\}|[aeiouAEIOUnc]/g, (found) => ACCENTS[found] ?? found);
  const room = Math.ceil(text.replace(/\{\w+\}/g, "").length * 0.4);
  return `⟦${accented} ${"·".repeat(Math.max(2, room - 3))}⟧`;
}

export function disguised(): Translation {
  const all = (strings: Record<string, string>) => Object.fromEntries(Object.entries(strings).map(([key, text]) => [key, disguise(text)]));
  return { language: "en", tables: { phone: all(phone), automations: all(automations), chat: all(chat), memos: all(memos), notifications: all(notifications), things: all(things) } };
}
