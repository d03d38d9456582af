/** Other arguments for a call that waits, as text in a form and back. */
import { canonical, type Action } from "./action.ts";
import type { ApprovalRow } from "./frames.ts";

export interface EditField {
  name: string;
  /** how it is typed: as it is, as a number, as yes or no, or as JSON */
  kind: "text" | "number" | "flag" | "json";
  typed: string;
}

export function fieldsOf(action: Action): EditField[] | null {
  if (typeof action.args !== "object" || action.args === null || Array.isArray(action.args)) return null;
  return Object.entries(action.args).map(([name, value]) => {
    if (typeof value === "string") return { name, kind: "text", typed: value };
    if (typeof value === "number") return { name, kind: "number", typed: String(value) };
    if (typeof value === "boolean") return { name, kind: "flag", typed: String(value) };
    return { name, kind: "json", typed: JSON.stringify(value, null, 2) };
  });
}

/** The name of the first field that holds nothing of its kind; null when all do. */
export function unfit(fields: EditField[]): string | null {
  return fields.find((field) => valueOf(field) === undefined)?.name ?? null;
}

/** The exact text to be signed beside the original's. */
export function editedAction(row: ApprovalRow, action: Action, fields: EditField[]): string {
  const args = Object.fromEntries(fields.map((field) => [field.name, valueOf(field)]));
  return canonical({ approval_id: row.approval_id, args, run_id: row.run_id, tool: action.tool });
}

/** Arguments as lines, for a comparison. */
export function argumentLines(args: unknown): string {
  if (typeof args !== "object" || args === null) return JSON.stringify(args);
  return Object.entries(args as Record<string, unknown>).map(([name, value]) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`).join("\n");
}

function valueOf({ kind, typed }: EditField): unknown {
  if (kind === "text") return typed;
  if (kind === "flag") return typed === "true";
  if (kind === "number") return typed.trim() !== "" && Number.isFinite(Number(typed)) ? Number(typed) : undefined;
  try {
    return JSON.parse(typed) as unknown;
  } catch {
    return undefined;
  }
}
