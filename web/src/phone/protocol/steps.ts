/** What an agent does while it works, as far as it tells: thoughts, a plan, work of its own, calls of the gateway's tools. */
import type { WireEvent } from "./frames.ts";

export interface ToolCall {
  kind: "call";
  id: string;
  name: string;
  args: string;
  result: string | null;
}

export interface Thought {
  kind: "thought";
  id: string;
  text: string;
  ended: boolean;
}

export interface PlanEntry {
  content: string;
  status: "pending" | "in_progress" | "completed";
}

export interface Plan {
  kind: "plan";
  id: string;
  entries: PlanEntry[];
}

export interface Change {
  path: string;
  before: string;
  after: string;
}

/** A tool that the agent has itself. */
export interface Work {
  kind: "work";
  id: string;
  title: string;
  status: "pending" | "in_progress" | "completed" | "failed";
  paths: string[];
  output: string;
  changes: Change[];
}

export type Step = ToolCall | Thought | Plan | Work;

/** Beyond them the oldest steps go, and the rest of a thought. */
export const MOST_STEPS = 100;
const MOST_THOUGHT_CHARACTERS = 20_000;
const MOST_ITEMS = 50;

/** The steps after an event; the same array where it tells of none of them. */
export function stepAfter(steps: Step[], event: WireEvent): Step[] {
  switch (event.type) {
    case "TOOL_CALL_START":
      return put(steps, { kind: "call", id: text(event["toolCallId"]), name: text(event["toolCallName"]), args: "", result: null });
    case "TOOL_CALL_ARGS":
      return change(steps, "call", event["toolCallId"], (call) => ({ ...call, args: call.args + text(event["delta"]) }));
    case "TOOL_CALL_RESULT":
      return change(steps, "call", event["toolCallId"], (call) => ({ ...call, result: text(event["content"]) }));
    case "REASONING_MESSAGE_START":
      return put(steps, { kind: "thought", id: text(event["messageId"]), text: "", ended: false });
    case "REASONING_MESSAGE_CONTENT":
      return change(steps, "thought", event["messageId"], (one) => (one.ended ? one : { ...one, text: grown(one.text, text(event["delta"])) }));
    case "REASONING_MESSAGE_END":
      return change(steps, "thought", event["messageId"], (one) => ({ ...one, ended: true }));
    case "ACTIVITY_SNAPSHOT": {
      const step = activity(text(event["messageId"]), event["activityType"], event["content"]);
      return step === null ? steps : put(steps, step);
    }
    default:
      return steps;
  }
}

/** What is not heard to its end is told no further: deltas are not sent again. */
export function endThoughts(steps: Step[]): Step[] {
  return steps.map((step) => (step.kind === "thought" && !step.ended ? { ...step, ended: true } : step));
}

function put(steps: Step[], step: Step): Step[] {
  if (step.id === "") return steps;
  const at = steps.findIndex((one) => one.id === step.id);
  return at >= 0 ? replaced(steps, at, step) : [...steps.slice(1 - MOST_STEPS), step];
}

function change<K extends Step["kind"]>(steps: Step[], kind: K, id: unknown, by: (step: Extract<Step, { kind: K }>) => Step): Step[] {
  const at = steps.findIndex((one) => one.kind === kind && one.id === id);
  return at < 0 ? steps : replaced(steps, at, by(steps[at] as Extract<Step, { kind: K }>));
}

function replaced(steps: Step[], at: number, step: Step): Step[] {
  return [...steps.slice(0, at), step, ...steps.slice(at + 1)];
}

function grown(before: string, delta: string): string {
  return before.length >= MOST_THOUGHT_CHARACTERS ? before : (before + delta).slice(0, MOST_THOUGHT_CHARACTERS);
}

function activity(id: string, type: unknown, content: unknown): Step | null {
  const told = record(content);
  if (type === "PLAN") {
    const entries = list(told["entries"]).map((entry) => ({ content: text(entry["content"]), status: one(entry["status"], ["completed", "in_progress"]) }));
    return { kind: "plan", id, entries };
  }
  if (type !== "TOOL") return null;
  return {
    kind: "work",
    id,
    title: text(told["title"]),
    status: one(told["status"], ["completed", "failed", "in_progress"]),
    paths: Array.isArray(told["paths"]) ? told["paths"].slice(0, MOST_ITEMS).map(text) : [],
    output: text(told["output"]),
    changes: list(told["changes"]).map((item) => ({ path: text(item["path"]), before: text(item["before"]), after: text(item["after"]) })),
  };
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function one<T extends string>(value: unknown, known: T[]): T | "pending" {
  return known.find((name) => name === value) ?? "pending";
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

function list(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value.slice(0, MOST_ITEMS).map(record) : [];
}
