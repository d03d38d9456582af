/** `t("key", {name})`: the one way text gets onto a page. Plurals are `key_one` and `key_other`, chosen by `n`. */
import { strings } from "./strings.en.ts";

type Catalogue = typeof strings;
type Stem<K> = K extends `${infer S}_one` | `${infer S}_other` ? S : K;
export type StringKey = Stem<keyof Catalogue>;

const plural = new Intl.PluralRules("en");

function lookup(key: string, values: Record<string, string | number> = {}): string {
  const table: Record<string, string> = strings;
  const n = values["n"];
  const text = (typeof n === "number" ? table[`${key}_${plural.select(n)}`] : undefined) ?? table[key] ?? table[`${key}_other`] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => (name in values ? String(values[name]) : whole));
}

export const t = Object.assign((key: StringKey, values?: Record<string, string | number>) => lookup(key, values), {
  has: (key: string): boolean => key in strings || `${key}_other` in strings,
  /** For codes that come from the gateway: its sentence if there is one, else the fallback's. */
  code: (prefix: string, code: string, fallback: StringKey): string =>
    `${prefix}.${code}` in strings ? lookup(`${prefix}.${code}`) : lookup(fallback, { code }),
});
