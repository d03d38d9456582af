const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte"] as const;

/** Bytes for people: `1.4 MB`. */
export function readable(bytes: number): string {
  const power = Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  const format = new Intl.NumberFormat(document.documentElement.lang || "en", { style: "unit", unit: UNITS[power] ?? "byte", unitDisplay: power === 0 ? "long" : "short", maximumFractionDigits: power > 1 ? 1 : 0 });
  return format.format(bytes / 1000 ** power);
}
