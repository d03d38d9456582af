/** Rules that let calls through without asking: their exact text, and what they mean. See docs/protocol.md §7. */
import { canonical } from "./action.ts";

export type Kind = "is" | "begins" | "longest" | "range";
export type Condition = { is: unknown } | { begins: string } | { longest: number } | { from: number; to: number };

/** One argument's choice in the form. */
export interface Choice {
  name: string;
  value: unknown;
  kind: Kind;
  begins: string;
  longest: number;
  from: number;
  to: number;
}

export const LIVES_S = [3600, 24 * 3600, 7 * 24 * 3600, 30 * 24 * 3600];
export const DEFAULT_LIFE_S = 24 * 3600;
const MAX_LONGEST = 64 * 1024;

/** To begin with a rule covers exactly the call that is looked at. */
export function choicesOf(args: Record<string, unknown>): Choice[] {
  return Object.keys(args)
    .sort()
    .map((name) => {
      const value = args[name];
      const text = typeof value === "string" ? value : "";
      const number = typeof value === "number" ? value : 0;
      const longest = Math.min(MAX_LONGEST, Math.max(200, [...text].length));
      return { name, value, kind: "is", begins: text.slice(0, text.lastIndexOf("/") + 1), longest, from: number, to: number };
    });
}

export function kindsFor(value: unknown): Kind[] {
  if (typeof value === "string") return ["is", "begins", "longest"];
  return typeof value === "number" ? ["is", "range"] : ["is"];
}

export function conditionOf(choice: Choice): Condition {
  if (choice.kind === "begins") return { begins: choice.begins };
  if (choice.kind === "longest") return { longest: choice.longest };
  return choice.kind === "range" ? { from: choice.from, to: choice.to } : { is: choice.value };
}

/** Whether the condition covers the call that it is made from, and is one that the gateway takes. */
export function fits(choice: Choice): boolean {
  if (choice.kind === "begins") return choice.begins !== "" && String(choice.value).startsWith(choice.begins);
  if (choice.kind === "longest") {
    const least = [...String(choice.value)].length;
    return Number.isInteger(choice.longest) && choice.longest >= Math.max(1, least) && choice.longest <= MAX_LONGEST;
  }
  if (choice.kind === "range") return choice.from <= (choice.value as number) && (choice.value as number) <= choice.to;
  return true;
}

export function ruleText(approvalId: string, tool: string, choices: Choice[], lifeS: number): string {
  const args = Object.fromEntries(choices.map((choice) => [choice.name, conditionOf(choice)]));
  return canonical({ approval_id: approvalId, args, ends_in_s: lifeS, tool });
}
