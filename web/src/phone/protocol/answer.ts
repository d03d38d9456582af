/** From what stands in the inputs of a question to the answer that is sent. */
import type { Field, QuestionRow, Value } from "../questions.svelte.ts";

export type Given = Record<string, Value | null>;

export function begin(fields: Field[]): Given {
  return Object.fromEntries(fields.map((field) => [field.name, field.default ?? (field.kind === "choices" ? [] : field.kind === "boolean" && field.required ? false : null)]));
}

/** Whether nothing is left to say about a field: only then is it sent. The gateway checks again. */
export function isGood(field: Field, value: Value | null | undefined): boolean {
  if (isEmpty(value)) return !field.required;
  const size = typeof value === "string" ? [...value].length : Array.isArray(value) ? value.length : typeof value === "number" ? value : 0;
  if (typeof value === "number" && (!Number.isFinite(value) || (field.kind === "integer" && !Number.isInteger(value)))) return false;
  if (typeof value === "boolean" || field.kind === "choice") return true;
  return size >= (field.minimum ?? -Infinity) && size <= (field.maximum ?? Infinity);
}

export function answerOf(row: QuestionRow, given: Given): Value | Record<string, Value> {
  if (row.kind !== "form") return given[row.fields[0]!.name] as Value;
  const said = Object.entries(given).filter((entry): entry is [string, Value] => !isEmpty(entry[1]));
  return Object.fromEntries(said.map(([name, value]) => [name, inFormat(row, name, value)]));
}

function isEmpty(value: Value | null | undefined): value is null | undefined {
  return value === null || value === undefined || value === "" || (Array.isArray(value) && value.length === 0);
}

/** An input for date and time knows no zone: it is the person's own. */
function inFormat(row: QuestionRow, name: string, value: Value): Value {
  const field = row.fields.find((one) => one.name === name);
  return field?.format === "date-time" && typeof value === "string" ? new Date(value).toISOString() : value;
}
