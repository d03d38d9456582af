/**
 * Messages on their way, as a pure list. Every item keeps one command id for life, so sending it again after a lost
 * answer changes nothing on the gateway. One message per conversation is in flight: order holds.
 */
import type { AttachedRow } from "./frames.ts";

export type OutboxState = "queued" | "sending" | "failed";

export interface OutboxItem {
  id: string;
  /** a conversation id, or `new:<ULID>` until the gateway has made one */
  conversation: string;
  content: string;
  /** on the gateway already; absent in what an older version of this app kept */
  files?: AttachedRow[];
  /** who is to answer in the conversation that it begins; absent: whoever does by default */
  agent?: string;
  state: OutboxState;
  created_ms: number;
  not_before_ms: number;
  attempts: number;
  /** the person said yes to sending something written long ago */
  confirmed: boolean;
  error: string | null;
}

const STALE_MS = 60 * 60_000;

export function enqueue(items: OutboxItem[], id: string, conversation: string, content: string, now: number, files: AttachedRow[] = [], agent = ""): OutboxItem[] {
  const item: OutboxItem = {
    id,
    conversation,
    content,
    files,
    ...(agent === "" ? {} : { agent }),
    state: "queued",
    created_ms: now,
    not_before_ms: 0,
    attempts: 0,
    confirmed: false,
    error: null,
  };
  return [...items, item];
}

/** Written over an hour ago and never sent: the world may have moved on, so ask before sending. */
export function isStale(item: OutboxItem, now: number): boolean {
  return item.state === "queued" && item.attempts === 0 && !item.confirmed && now - item.created_ms > STALE_MS;
}

/** The items that may go out now: the oldest of each conversation, unless it waits for a person or its time. */
export function sendable(items: OutboxItem[], now: number): OutboxItem[] {
  const seen = new Set<string>();
  const ready: OutboxItem[] = [];
  for (const item of items) {
    if (seen.has(item.conversation)) continue;
    seen.add(item.conversation);
    if (item.state === "queued" && item.not_before_ms <= now && !isStale(item, now)) ready.push(item);
  }
  return ready;
}

export function markSending(items: OutboxItem[], id: string): OutboxItem[] {
  return change(items, id, (item) => ({ ...item, state: "sending", attempts: item.attempts + 1, error: null }));
}

/** The gateway has it: the item goes, and what waited for the new conversation learns its id. */
export function markSent(items: OutboxItem[], id: string, conversationId: string): OutboxItem[] {
  const sent = items.find((item) => item.id === id);
  if (sent === undefined) return items;
  return items
    .filter((item) => item.id !== id)
    .map((item) => (item.conversation === sent.conversation ? { ...item, conversation: conversationId } : item));
}

export function markFailed(items: OutboxItem[], id: string, error: string): OutboxItem[] {
  return change(items, id, (item) => ({ ...item, state: "failed", error }));
}

export function markLater(items: OutboxItem[], id: string, notBefore: number): OutboxItem[] {
  return change(items, id, (item) => ({ ...item, state: "queued", not_before_ms: notBefore }));
}

/** The link went away or the page was reloaded: what was in flight is queued again, under its old id. */
export function requeueAll(items: OutboxItem[]): OutboxItem[] {
  return items.map((item) => (item.state === "sending" ? { ...item, state: "queued" } : item));
}

/** A refused command's answer is kept under its id, so trying again needs a new one. */
export function retry(items: OutboxItem[], id: string, freshId: string, now: number): OutboxItem[] {
  return change(items, id, (item) => {
    const again: OutboxItem = { ...item, state: "queued", confirmed: true, error: null, not_before_ms: now };
    return item.state === "failed" ? { ...again, id: freshId, attempts: 0 } : again;
  });
}

export function discard(items: OutboxItem[], id: string): OutboxItem[] {
  return items.filter((item) => item.id !== id);
}

function change(items: OutboxItem[], id: string, with_: (item: OutboxItem) => OutboxItem): OutboxItem[] {
  return items.map((item) => (item.id === id ? with_(item) : item));
}
