/** `t("key", {name})` over a catalogue. Plurals are `key_one` and `key_other`, chosen by `n`. */
type Stem<K> = K extends `${infer S}_one` | `${infer S}_other` ? S : K;
export type KeyOf<C> = Stem<keyof C & string>;
export type Values = Record<string, string | number>;

const plural = new Intl.PluralRules("en");

export function translator<C extends Record<string, string>>(strings: C) {
  const table: Record<string, string> = strings;
  const lookup = (key: string, values: Values = {}): string => {
    const n = values["n"];
    const text = (typeof n === "number" ? table[`${key}_${plural.select(n)}`] : undefined) ?? table[key] ?? table[`${key}_other`] ?? key;
    return text.replace(/\{(\w+)\}/g, (whole, name: string) => (name in values ? String(values[name]) : whole));
  };
  return Object.assign((key: KeyOf<C>, values?: Values) => lookup(key, values), {
    has: (key: string): boolean => key in strings || `${key}_other` in strings,
    /** For codes that come from the gateway: its sentence if there is one, else the fallback's. */
    code: (prefix: string, code: string, fallback: KeyOf<C>): string =>
      `${prefix}.${code}` in strings ? lookup(`${prefix}.${code}`) : lookup(fallback, { code }),
  });
}
