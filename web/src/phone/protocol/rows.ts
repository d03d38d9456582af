/** What a chat shows, in order: stored messages, what the agent does now, what waits to be sent. */
import type { MessageRow } from "./frames.ts";
import { isStale, type OutboxItem } from "./outbox.ts";
import type { LiveText, Run, Transcript } from "./transcript.ts";

export type OutgoingState = "queued" | "sending" | "failed" | "stale";

export type ChatRow =
  | { kind: "message"; key: string; message: MessageRow; own: boolean }
  | { kind: "run"; key: string; run: Run }
  | { kind: "live"; key: string; live: LiveText }
  | { kind: "outgoing"; key: string; item: OutboxItem; state: OutgoingState };

export function chatRows(
  state: Transcript,
  conversation: string,
  outbox: OutboxItem[],
  ownDevice: string,
  now: number,
): ChatRow[] {
  const rows: ChatRow[] = [];
  const messages = state.threads[conversation]?.messages ?? [];
  const runs = Object.values(state.runs).filter((run) => run.conversation_id === conversation && worthShowing(run, messages));
  const known = new Set(messages.map((message) => message.message_id));
  const runRow = (run: Run): ChatRow => ({ kind: "run", key: `r-${run.run_id}`, run });
  for (const message of messages) {
    rows.push({ kind: "message", key: message.message_id, message, own: message.role === "user" });
    rows.push(...runs.filter((run) => run.after === message.message_id).map(runRow));
  }
  rows.push(...runs.filter((run) => run.after === null || !known.has(run.after)).map(runRow));
  for (const live of Object.values(state.live)) {
    // History that was asked for may bring a message before its own event ends the live text.
    if (live.conversation_id === conversation && !known.has(live.message_id)) rows.push({ kind: "live", key: live.message_id, live });
  }
  for (const item of outbox) {
    if (item.conversation !== conversation || arrived(item, messages, ownDevice)) continue;
    rows.push({ kind: "outgoing", key: item.id, item, state: isStale(item, now) ? "stale" : item.state });
  }
  return rows;
}

/** What it does, and an error that no stored message tells already. */
function worthShowing(run: Run, messages: MessageRow[]): boolean {
  if (run.steps.length > 0) return true;
  return run.error !== null && !messages.some((message) => message.run_id === run.run_id && message.error);
}

/** The event of a message can overtake the answer to its command; show it once. */
function arrived(item: OutboxItem, messages: MessageRow[], ownDevice: string): boolean {
  if (item.state !== "sending") return false;
  const last = messages.filter((row) => row.role === "user").at(-1);
  if (last === undefined || last.sender_device_id !== ownDevice || last.content !== item.content) return false;
  if (last.files?.[0]?.file_id !== item.files?.[0]?.file_id) return false;
  return Date.parse(last.created_at) >= item.created_ms - 5_000;
}
