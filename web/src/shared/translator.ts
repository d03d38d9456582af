/** `t("key", {name})` over a catalogue. Plurals are `key_one` and `key_other`, chosen by `n` and the language. */
type Stem<K> = K extends `${infer S}_one` | `${infer S}_other` ? S : K;
export type KeyOf<C> = Stem<keyof C & string>;
export type Values = Record<string, string | number>;
type Table = Record<string, string>;

/** The same sentences in another language, by the name of their catalogue. */
export interface Translation {
  language: string;
  tables: Record<string, Table>;
}

let translation: Translation = { language: "en", tables: {} };
let plural = new Intl.PluralRules("en");
let numbers = new Intl.NumberFormat("en");

/** Before anything is shown: what was said already stays as it is. `region` is the tag that numbers are written by. */
export function speak(spoken: Translation, region: string): void {
  translation = spoken;
  plural = new Intl.PluralRules(spoken.language);
  numbers = new Intl.NumberFormat(region);
}

export function translator<C extends Table>(name: string, strings: C) {
  const lookup = (key: string, values: Values = {}): string => {
    const table: Table = translation.tables[name] ?? strings;
    const n = values["n"];
    const text = (typeof n === "number" ? table[`${key}_${plural.select(n)}`] : undefined) ?? table[key] ?? table[`${key}_other`] ?? key;
    return text.replace(/\{(\w+)\}/g, (whole, field: string) => written(values[field]) ?? whole);
  };
  return Object.assign((key: KeyOf<C>, values?: Values) => lookup(key, values), {
    has: (key: string): boolean => key in strings || `${key}_other` in strings,
    /** For codes that come from the gateway: its sentence if there is one, else the fallback's. */
    code: (prefix: string, code: string, fallback: KeyOf<C>): string =>
      `${prefix}.${code}` in strings ? lookup(`${prefix}.${code}`) : lookup(fallback, { code }),
  });
}

/** Whole numbers as the region groups them; others exactly, since a rule's limits are read from them. */
function written(value: string | number | undefined): string | undefined {
  if (typeof value !== "number") return value;
  return Number.isSafeInteger(value) ? numbers.format(value) : String(value);
}
