/** Values of settings as texts in forms, and back. */
import type { SettingField } from "./api.ts";

/** What stands in the field of a form: lists by lines, nothing as "". */
export function shown(value: unknown): string {
  if (value === null || value === undefined) return "";
  if (Array.isArray(value)) return value.join("\n");
  return String(value);
}

/** What a form says, as the gateway takes it; what is no number is sent as it stands, so that the gateway says so. */
export function given(field: SettingField, text: string): unknown {
  if (field.kind === "list") return text.split("\n").map((one) => one.trim()).filter((one) => one !== "");
  if (field.kind === "boolean") return text === "true";
  if (field.kind === "integer" || field.kind === "number" || field.kind === "duration") {
    if (text.trim() === "") return null;
    const number = Number(text);
    return Number.isFinite(number) ? number : text;
  }
  return text;
}

/** For a table: lists in one line, and a word for nothing. */
export function told(value: unknown, nothing: string): string {
  if (value === null || value === undefined || value === "" || (Array.isArray(value) && value.length === 0)) return nothing;
  const word = (one: unknown): string => (typeof one === "object" ? JSON.stringify(one) : String(one));
  return Array.isArray(value) ? value.map(word).join(", ") : String(value);
}
