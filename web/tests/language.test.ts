import { afterEach, describe, expect, it } from "vitest";
import { disguise, disguised } from "../src/phone/disguise.ts";
import { strings as englishChat } from "../src/phone/pages/strings.en.chat.ts";
import { strings as englishMemos } from "../src/phone/pages/strings.en.memos.ts";
import { strings as englishAutomations } from "../src/phone/pages/strings.en.automations.ts";
import { strings as englishThings } from "../src/phone/pages/strings.en.things.ts";
import { strings as englishNews } from "../src/phone/pages/strings.en.notifications.ts";
import { translation } from "../src/phone/strings.de.ts";
import { strings as english } from "../src/shared/strings.en.ts";
import { t } from "../src/shared/strings.ts";
import { speak } from "../src/shared/translator.ts";

const fields = (text: string) => [...new Set(text.match(/\{\w+\}/g) ?? [])].sort();

describe("German", () => {
  it.each([["phone", english], ["chat", englishChat], ["memos", englishMemos], ["things", englishThings], ["automations", englishAutomations], ["notifications", englishNews]])("has every sentence of %s, with the same blanks", (name, strings) => {
    const german = translation.tables[name]!;
    expect(Object.keys(german).sort()).toEqual(Object.keys(strings).sort());
    const other = Object.entries(strings).filter(([key, text]) => fields(text).join() !== fields(german[key]!).join() || german[key] === "");
    expect(other).toEqual([]);
  });
  it("is English nowhere, but for names", () => {
    const same = Object.entries({ ...english, ...englishChat, ...englishMemos, ...englishNews }).filter(([key, text]) => text === ({ ...translation.tables["phone"], ...translation.tables["chat"], ...translation.tables["memos"], ...translation.tables["notifications"] })[key] && / /.test(text) && !text.startsWith("{"));
    expect(same.map(([, text]) => text)).toEqual(["entobot pair"]);
  });
});

describe("speaking", () => {
  afterEach(() => speak({ language: "en", tables: {} }, "en"));
  it("chooses words, plurals and digits of the language", () => {
    speak(translation, "de-AT");
    expect(t("chat.answered", { n: 1 })).toBe("Antwort fertig, 1 Wort.");
    expect(t("chat.answered", { n: 1234567 })).toContain("Wörter");
    expect(t("chat.answered", { n: 1234567 })).not.toContain("1,234");
    expect(t.code("pair.error", "nonsense", "pair.error.other")).toContain("nonsense");
    expect(t("rule.said.range", { from: 0.00001, to: 2 })).toContain("0.00001");
  });
  it("in disguise is longer, and keeps its blanks", () => {
    expect(disguise("at {host}")).toMatch(/^⟦át \{host\} .*⟧$/);
    expect(disguise("Answer complete").length).toBeGreaterThan("Answer complete".length * 1.3);
    expect(Object.keys(disguised().tables["phone"]!)).toEqual(Object.keys(english));
  });
});
