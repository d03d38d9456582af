/** AG-UI 1.0 events: runs, text deltas, and the steps of a run. */
import type { WireEvent } from "./frames.ts";
import { endThoughts, stepAfter } from "./steps.ts";
import { newRun, type LiveText, type Run, type Transcript } from "./transcript.ts";

export function applyAgentEvent(state: Transcript, event: WireEvent, topic: string | null): Transcript {
  const conversation = text(event["threadId"]) ?? topic;
  switch (event.type) {
    case "RUN_STARTED":
      return runStarted(state, text(event["runId"]), conversation);
    case "RUN_FINISHED":
      return runEnded(state, text(event["runId"]), conversation, null);
    case "RUN_ERROR":
      return runEnded(state, text(event["runId"]), conversation, {
        code: text(event["code"]) ?? "internal",
        message: text(event["message"]) ?? "",
      });
    case "TEXT_MESSAGE_START":
      return textStarted(state, text(event["messageId"]), text(event["role"]), conversation);
    case "TEXT_MESSAGE_CONTENT":
      return changeText(state, text(event["messageId"]), (live) => ({ ...live, text: live.text + String(event["delta"]) }));
    case "TEXT_MESSAGE_END":
      return changeText(state, text(event["messageId"]), (live) => ({ ...live, ended: true }));
    default:
      return stepTaken(state, event, conversation);
  }
}

function text(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function runStarted(state: Transcript, runId: string | null, conversation: string | null): Transcript {
  if (runId === null || conversation === null) return state;
  const run = state.runs[runId] ?? newRun(runId, conversation, lastMessageId(state, conversation));
  const runs: Record<string, Run> = { ...state.runs, [runId]: run };
  return setActive({ ...state, runs }, conversation, runId);
}

function runEnded(state: Transcript, runId: string | null, conversation: string | null, error: Run["error"]): Transcript {
  const id = runId ?? activeRunId(state, conversation);
  if (id === null) return state;
  const run = state.runs[id] ?? (conversation === null ? null : newRun(id, conversation, lastMessageId(state, conversation)));
  if (run === null) return state;
  const live: Record<string, LiveText> = {};
  for (const [key, value] of Object.entries(state.live)) {
    // A failed run stores no message, so its half-written answer goes with it.
    if (error === null || value.conversation_id !== run.conversation_id) live[key] = { ...value, ended: true };
  }
  const ended: Run = { ...run, state: error === null ? "finished" : "failed", error, steps: endThoughts(run.steps) };
  const next = { ...state, live, runs: { ...state.runs, [id]: ended } };
  const active = state.conversations[run.conversation_id]?.active_run_id;
  return active === id ? setActive(next, run.conversation_id, null) : next;
}

function setActive(state: Transcript, conversation: string, runId: string | null): Transcript {
  const row = state.conversations[conversation];
  if (row === undefined) return state;
  return { ...state, conversations: { ...state.conversations, [conversation]: { ...row, active_run_id: runId } } };
}

function lastMessageId(state: Transcript, conversation: string): string | null {
  return state.threads[conversation]?.messages.at(-1)?.message_id
    ?? state.conversations[conversation]?.last_message?.message_id
    ?? null;
}

/** The run being worked on in a conversation. */
export function activeRunId(state: Transcript, conversation: string | null): string | null {
  const run = Object.values(state.runs).find((one) => one.conversation_id === conversation && one.state === "running");
  return run?.run_id ?? null;
}

function textStarted(state: Transcript, id: string | null, role: string | null, conversation: string | null): Transcript {
  if (id === null || conversation === null || (role !== null && role !== "assistant")) return state;
  // The stored message may have overtaken its own deltas on a resumed link.
  const stored = state.threads[conversation]?.messages.some((row) => row.message_id === id) ?? false;
  if (stored) return state;
  const live: LiveText = { message_id: id, conversation_id: conversation, text: "", ended: false };
  return { ...state, live: { ...state.live, [id]: live } };
}

function changeText(state: Transcript, id: string | null, change: (live: LiveText) => LiveText): Transcript {
  const live = id === null ? undefined : state.live[id];
  if (live === undefined) return state;
  return { ...state, live: { ...state.live, [live.message_id]: change(live) } };
}

/** By its run where the event names it, else the one that has this step or is worked on. */
function stepTaken(state: Transcript, event: WireEvent, conversation: string | null): Transcript {
  const id = event["toolCallId"] ?? event["messageId"];
  const owner = Object.values(state.runs).find((one) => one.steps.some((step) => step.id === id));
  const run = owner ?? state.runs[text(event["runId"]) ?? activeRunId(state, conversation) ?? ""];
  if (run === undefined) return state;
  const steps = stepAfter(run.steps, event);
  return steps === run.steps ? state : { ...state, runs: { ...state.runs, [run.run_id]: { ...run, steps } } };
}
