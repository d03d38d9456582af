/**
 * What an approval asks for, read from the exact text that will run. The page refuses to show buttons for a text that
 * does not hash to what was announced, or that could be read in two ways.
 */
import { hashText } from "../../shared/base64url.ts";
import type { ApprovalRow } from "./frames.ts";

export interface Action {
  tool: string;
  args: unknown;
}

export type ActionProblem = "hash" | "not_canonical" | "other_request";

export async function readAction(row: ApprovalRow): Promise<Action | ActionProblem> {
  if ((await hashText(row.action)) !== row.action_sha256) return "hash";
  let parsed: unknown;
  try {
    parsed = JSON.parse(row.action);
  } catch {
    return "not_canonical";
  }
  // A duplicate key or an odd number would parse to something else than what stands in the text.
  if (canonical(parsed) !== row.action) return "not_canonical";
  const action = parsed as Record<string, unknown>;
  if (typeof action["tool"] !== "string" || !("args" in action)) return "not_canonical";
  if (action["approval_id"] !== row.approval_id || action["run_id"] !== row.run_id) return "other_request";
  return { tool: action["tool"], args: action["args"] };
}

/** RFC 8785: JavaScript's own number and string forms, members sorted by UTF-16 code units. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const members = value as Record<string, unknown>;
    const keys = Object.keys(members).sort();
    return `{${keys.map((key) => `${JSON.stringify(key)}:${canonical(members[key])}`).join(",")}}`;
  }
  return JSON.stringify(value);
}

export interface TextPart {
  text: string;
  /** the name of a character that cannot be seen or that reorders others, e.g. `U+202E` */
  mark: boolean;
}

// Control, format, surrogate, private, unassigned and separator characters, and what fonts draw as nothing.
const HIDDEN = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u00A0\u1680\u2000-\u200A\u202F\u205F\u3000\u2800]/u;

/** Splits a text so that every invisible character stands out by name. Line feeds are marked and still break lines. */
export function visibleParts(text: string): TextPart[] {
  const parts: TextPart[] = [];
  let plain = "";
  const flush = () => {
    if (plain !== "") parts.push({ text: plain, mark: false });
    plain = "";
  };
  for (const char of text) {
    if (!HIDDEN.test(char)) {
      plain += char;
      continue;
    }
    flush();
    parts.push({ text: nameOf(char), mark: true });
    if (char === "\n") plain = "\n";
  }
  flush();
  return parts;
}

function nameOf(char: string): string {
  if (char === "\n") return "↵";
  if (char === "\t") return "⇥";
  return `U+${char.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}`;
}
