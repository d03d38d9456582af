import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "svelte/compiler";
import { describe, expect, it } from "vitest";
import { strings as adminStrings } from "../src/admin/strings.en.ts";
import { strings as chat } from "../src/phone/pages/strings.en.chat.ts";
import { strings as memos } from "../src/phone/pages/strings.en.memos.ts";
import { strings as automations } from "../src/phone/pages/strings.en.automations.ts";
import { strings as things } from "../src/phone/pages/strings.en.things.ts";
import { strings } from "../src/shared/strings.en.ts";
import { t } from "../src/shared/strings.ts";

const SOURCE = join(import.meta.dirname, "../src");
const files = readdirSync(SOURCE, { recursive: true, encoding: "utf8" }).filter((name) => /\.(ts|svelte)$/.test(name) && !name.endsWith(".d.ts"));
const texts = new Map(files.map((name) => [name, readFileSync(join(SOURCE, name), "utf8")]));
const code = [...texts].filter(([name]) => !/strings\.(en|de)/.test(name)).map(([, text]) => text).join("\n");

interface Node {
  type?: string;
  name?: string;
  data?: string;
}

// Other attributes hold names for machines.
const SPOKEN = new Set(["alt", "aria-label", "placeholder", "title"]);

function* walk(value: unknown): Generator<Node> {
  if (Array.isArray(value)) for (const item of value) yield* walk(item);
  else if (typeof value === "object" && value !== null) {
    const node = value as Node;
    if (node.type === "Attribute" && !SPOKEN.has(node.name ?? "")) return;
    yield node;
    for (const child of Object.values(value)) yield* walk(child);
  }
}

const templates = [...texts].filter(([name]) => name.endsWith(".svelte"));

describe("templates", () => {
  it.each(templates)("%s holds no text of its own", (_name, text) => {
    const literal = [...walk(parse(text, { modern: true }).fragment)]
      .filter((node) => node.type === "Text" && /\p{L}{2,}/u.test(node.data ?? ""))
      .map((node) => node.data);
    expect(literal).toEqual([]);
  });
  it.each(templates)("%s has no style attribute and inserts no raw HTML", (_name, text) => {
    expect(text).not.toMatch(/\sstyle=|\{@html|innerHTML/);
  });
  it.each([...texts])("%s stays below 500 lines", (name, text) => {
    if (!/strings\.(en|de)/.test(name)) expect(text.split("\n").length).toBeLessThan(500);
  });
  it("no source names a host of somebody else", () => {
    expect(code.match(/https?:\/\/(?!\$)[\w.-]+/g) ?? []).toEqual([]);
  });
});

describe("the catalogue", () => {
  const used = (key: string) => {
    const stem = key.replace(/_(one|other)$/, "");
    if (code.includes(`"${stem}"`)) return true;
    // Keys made from a code: `pair.error.${code}` and t.code("pair.error", …).
    const prefix = stem.slice(0, stem.lastIndexOf("."));
    const outer = prefix.slice(0, prefix.lastIndexOf("."));
    return code.includes(`\`${prefix}.\${`) || code.includes(`\`${outer}.\${`) || code.includes(`"${prefix}"`) || code.includes(`"${outer}"`);
  };
  it.each([["phone", strings], ["chat", chat], ["memos", memos], ["things", things], ["automations", automations], ["admin", adminStrings]])("of the %s pages has no sentence that nothing shows", (_name, catalogue) => {
    expect(Object.keys(catalogue).filter((key) => !used(key))).toEqual([]);
  });
  it("fills in values and chooses plurals", () => {
    expect(t("chat.answered", { n: 1 })).toBe("Answer complete, 1 word.");
    expect(t("chat.answered", { n: 7 })).toBe("Answer complete, 7 words.");
    expect(t("pair.at", { host: "gw" })).toBe("at gw");
    expect(t.code("pair.error", "nonsense", "pair.error.other")).toContain("nonsense");
  });
});

describe("colours", () => {
  const css = readFileSync(join(SOURCE, "shared/base.css"), "utf8");
  const block = (start: string) => {
    const body = css.slice(css.indexOf(start)).split("}")[0]!;
    return Object.fromEntries([...body.matchAll(/--([\w-]+):\s*(#[0-9a-f]{6})/g)].map((match) => [match[1]!, match[2]!]));
  };
  const luminance = (hex: string) => {
    const [r, g, b] = [1, 3, 5].map((at) => {
      const channel = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
      return channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
    }) as [number, number, number];
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a: string, b: string) => {
    const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x) as [number, number];
    return (high + 0.05) / (low + 0.05);
  };
  const pairs = [
    ["ink", "bg"], ["ink", "surface"], ["ink", "sunken"], ["muted", "bg"], ["muted", "surface"], ["muted", "sunken"],
    ["accent", "bg"], ["accent", "surface"], ["on-accent", "accent"], ["on-accent", "accent-strong"],
    ["on-accent-soft", "accent-soft"], ["danger", "surface"], ["danger", "bg"], ["on-danger", "danger"],
    ["on-danger-soft", "danger-soft"], ["on-warn-soft", "warn-soft"],
  ] as const;
  for (const [theme, start] of [["light", ":root {"], ["dark", ':root[data-theme="dark"] {']] as const) {
    const colours = block(start);
    it.each(pairs)(`${theme}: %s on %s is at least 4.5 : 1`, (front, back) => {
      expect(contrast(colours[front]!, colours[back]!)).toBeGreaterThanOrEqual(4.5);
    });
    it(`${theme}: edges of controls and the focus ring are at least 3 : 1`, () => {
      for (const back of ["bg", "surface", "raised"]) {
        expect(contrast(colours["line-strong"]!, colours[back]!)).toBeGreaterThanOrEqual(3);
        expect(contrast(colours["focus"]!, colours[back]!)).toBeGreaterThanOrEqual(3);
      }
    });
  }
  it("the system's dark theme is the chosen one", () => {
    expect(block(':root:not([data-theme="light"]) {')).toEqual(block(':root[data-theme="dark"] {'));
  });
});
