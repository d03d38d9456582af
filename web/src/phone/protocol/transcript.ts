/**
 * Everything the gateway has told this device, as one immutable value. `reduce` takes a frame and gives the next value;
 * an event that was applied already changes nothing, so replays are harmless.
 */
import { applyAgentEvent } from "./agentevents.ts";
import type {
  ApprovalRow,
  ApprovalState,
  ConversationRow,
  EventFrame,
  MessageRow,
  SnapshotFrame,
  VoteRow,
} from "./frames.ts";
import { endThoughts, type Step } from "./steps.ts";

export interface Run {
  run_id: string;
  conversation_id: string;
  state: "running" | "finished" | "failed";
  error: { code: string; message: string } | null;
  steps: Step[];
  /** the newest message when it began: what the run did is shown below it */
  after: string | null;
}

/** An answer being written. It goes when the stored message with the same id arrives. */
export interface LiveText {
  message_id: string;
  conversation_id: string;
  text: string;
  ended: boolean;
}

export interface Thread {
  messages: MessageRow[];
  /** where the next older page starts; null = nothing older; undefined = never loaded */
  older?: string | null;
  /** loaded before a reset: shown, but to be fetched again */
  stale: boolean;
}

export interface Transcript {
  stream: string | null;
  seq: number;
  conversations: Record<string, ConversationRow>;
  threads: Record<string, Thread>;
  runs: Record<string, Run>;
  live: Record<string, LiveText>;
  approvals: Record<string, ApprovalRow>;
  /** a snapshot of several frames that is still arriving */
  arriving: { conversations: ConversationRow[]; approvals: ApprovalRow[] } | null;
}

export const emptyTranscript: Transcript = {
  stream: null,
  seq: 0,
  conversations: {},
  threads: {},
  runs: {},
  live: {},
  approvals: {},
  arriving: null,
};

/** A link is ready: another stream means the gateway was restored, and the old position means nothing there. */
export function beginStream(state: Transcript, stream: string): Transcript {
  const live: Record<string, LiveText> = {};
  // Deltas are not replayed: an answer being written comes again from its start.
  const runs: Record<string, Run> = {};
  for (const run of Object.values(state.runs)) runs[run.run_id] = { ...run, steps: endThoughts(run.steps) };
  return { ...state, stream, live, runs, arriving: null, ...(state.stream === stream ? {} : { seq: 0 }) };
}

export function applyReset(state: Transcript): Transcript {
  const threads: Record<string, Thread> = {};
  for (const [id, thread] of Object.entries(state.threads)) threads[id] = { ...thread, stale: true };
  return { ...state, threads, runs: {}, live: {}, arriving: { conversations: [], approvals: [] } };
}

export function applySnapshot(state: Transcript, frame: SnapshotFrame): Transcript {
  const before = state.arriving ?? { conversations: [], approvals: [] };
  const arriving = {
    conversations: [...before.conversations, ...frame.conversations],
    approvals: [...before.approvals, ...frame.pending_approvals],
  };
  if (frame.more === true) return { ...state, arriving };
  const conversations: Record<string, ConversationRow> = {};
  const runs: Record<string, Run> = {};
  for (const row of arriving.conversations) {
    conversations[row.conversation_id] = row;
    const last = row.last_message?.message_id ?? null;
    if (row.active_run_id) runs[row.active_run_id] = newRun(row.active_run_id, row.conversation_id, last);
  }
  const threads: Record<string, Thread> = {};
  for (const [id, thread] of Object.entries(state.threads)) {
    if (conversations[id] !== undefined) threads[id] = thread;
  }
  const approvals: Record<string, ApprovalRow> = {};
  for (const row of arriving.approvals) approvals[row.approval_id] = { ...row, state: row.state ?? "pending" };
  return { ...state, seq: frame.seq, conversations, threads, runs, live: {}, approvals, arriving: null };
}

export function newRun(runId: string, conversationId: string, after: string | null): Run {
  return { run_id: runId, conversation_id: conversationId, state: "running", error: null, steps: [], after };
}

export function applyEvent(state: Transcript, frame: EventFrame): Transcript {
  if (frame.seq !== undefined) {
    if (frame.seq <= state.seq) return state;
    state = { ...state, seq: frame.seq };
  }
  const { event } = frame;
  switch (event.type) {
    case "message.created":
      return applyMessage(state, { ...(event.data as unknown as MessageRow), seq: frame.seq });
    case "approval.requested":
      return putApproval(state, { ...(event.data as unknown as ApprovalRow), state: "pending" });
    case "approval.prompted":
      return changeApproval(state, event.data ?? {}, (row) => ({ ...row, queued: false }));
    case "approval.voted":
      return changeApproval(state, event.data ?? {}, (row, data) => addVote(row, data["vote"] as VoteRow));
    case "approval.decided":
      return applyDecision(state, event.data ?? {}, frame.ts);
    case "conversation.created":
    case "conversation.renamed":
    case "conversation.changed":
      return applyConversation(state, event.data ?? {}, frame.ts);
    default:
      return applyAgentEvent(state, event, conversationOf(frame.topic));
  }
}

function conversationOf(topic: string): string | null {
  return topic.startsWith("conversation:") ? topic.slice("conversation:".length) : null;
}

function applyMessage(state: Transcript, row: MessageRow): Transcript {
  const id = row.conversation_id;
  const live = { ...state.live };
  delete live[row.message_id];
  const thread = state.threads[id];
  const known = state.conversations[id];
  const conversation: ConversationRow = {
    ...(known ?? { conversation_id: id, title: null, created_at: row.created_at, active_run_id: null }),
    updated_at: row.created_at,
    last_message: { message_id: row.message_id, role: row.role, content: row.content, created_at: row.created_at },
  };
  const threads = { ...state.threads };
  // A conversation first heard of here has no history before this message.
  if (thread !== undefined) threads[id] = { ...thread, messages: mergeMessages(thread.messages, [row]) };
  else if (known === undefined) threads[id] = { messages: [row], older: null, stale: true };
  return { ...state, live, threads, conversations: { ...state.conversations, [id]: conversation } };
}

function applyConversation(state: Transcript, data: Record<string, unknown>, ts: number): Transcript {
  const id = data["conversation_id"];
  if (typeof id !== "string") return state;
  const now = new Date(ts).toISOString();
  const known = state.conversations[id] ?? { conversation_id: id, title: null, created_at: now, updated_at: now };
  const row = { ...known, ...data, updated_at: known.updated_at } as ConversationRow;
  return { ...state, conversations: { ...state.conversations, [id]: row } };
}

/** Rows the gateway listed: titles it made, conversations of other devices. What events told since is newer. */
export function putConversations(state: Transcript, rows: ConversationRow[]): Transcript {
  const conversations = { ...state.conversations };
  for (const row of rows) {
    const known = conversations[row.conversation_id];
    conversations[row.conversation_id] = known === undefined ? row : { ...known, title: row.title, ...(row.agent ? { agent: row.agent } : {}) };
  }
  return { ...state, conversations };
}

/** Who answers in a conversation that began here. No event tells it. */
export function putAgent(state: Transcript, id: string, agent: string, now: number): Transcript {
  const at = new Date(now).toISOString();
  const known = state.conversations[id];
  // Its first message may come later than the answer to its command.
  const threads = known === undefined ? { ...state.threads, [id]: { messages: [], older: null, stale: true } } : state.threads;
  const row = known ?? { conversation_id: id, title: null, created_at: at, updated_at: at };
  return { ...state, threads, conversations: { ...state.conversations, [id]: { ...row, agent } } };
}

/** The gateway's title, else how the conversation began, else nothing. */
export function titleOf(state: Transcript, id: string): string | null {
  const title = state.conversations[id]?.title;
  if (title) return plainLine(title);
  const thread = state.threads[id];
  if (thread === undefined || thread.older) return null;
  const first = thread.messages.find((row) => row.role === "user")?.content ?? "";
  if (first.trim() === "") return null;
  const line = plainLine(first);
  return line.length > 60 ? `${line.slice(0, 59)}…` : line;
}

/** In one line, marks of emphasis say nothing. */
export function plainLine(text: string): string {
  const plain = text.replace(/[*`]+|^\s*[#>]+\s/gm, "").replace(/\s+/g, " ").trim();
  return plain === "" ? text.trim() : plain;
}

export function putApproval(state: Transcript, row: ApprovalRow): Transcript {
  return { ...state, approvals: { ...state.approvals, [row.approval_id]: row } };
}

function changeApproval(state: Transcript, data: Record<string, unknown>, change: (row: ApprovalRow, data: Record<string, unknown>) => ApprovalRow): Transcript {
  const row = state.approvals[String(data["approval_id"])];
  return row === undefined ? state : putApproval(state, change(row, data));
}

function addVote(row: ApprovalRow, vote: VoteRow): ApprovalRow {
  const others = (row.votes ?? []).filter((one) => one.user_id !== vote.user_id);
  return { ...row, votes: [...others, vote] };
}

const DECIDED: Record<string, ApprovalState> = {
  approve: "approved",
  approved: "approved",
  deny: "denied",
  denied: "denied",
  expire: "expired",
  expired: "expired",
  cancel: "cancelled",
  cancelled: "cancelled",
};

function applyDecision(state: Transcript, data: Record<string, unknown>, ts: number): Transcript {
  const row = state.approvals[String(data["approval_id"])];
  if (row === undefined) return state;
  return putApproval(state, {
    ...row,
    state: DECIDED[String(data["decision"])] ?? "cancelled",
    decision: String(data["decision"]),
    decided_at: typeof data["at"] === "string" ? data["at"] : new Date(ts).toISOString(),
    decided_by_device_id: typeof data["device_id"] === "string" ? data["device_id"] : null,
    decided_by_sms: data["verified"] === "sms",
  });
}

/** A page of history. The newest page of a stale thread replaces it, older pages join it. */
export function applyHistory(
  state: Transcript,
  conversationId: string,
  rows: MessageRow[],
  next: string | null,
  newest: boolean,
): Transcript {
  const thread = state.threads[conversationId];
  const messages = mergeMessages(newest && thread?.stale !== false ? [] : (thread?.messages ?? []), rows);
  // A message that arrived as an event while the page was under way must not be lost by replacing.
  const last = rows.at(-1);
  const arrived = (thread?.messages ?? []).filter((row) => last === undefined || byPlace(row, last) > 0);
  const merged = newest ? mergeMessages(messages, arrived) : messages;
  const older = newest && thread !== undefined && !thread.stale && thread.older !== undefined ? thread.older : next;
  return {
    ...state,
    threads: { ...state.threads, [conversationId]: { messages: merged, older, stale: false } },
  };
}

/** Each once, in the order in which the gateway stored them. */
export function mergeMessages(known: MessageRow[], rows: MessageRow[]): MessageRow[] {
  const byId = new Map(known.map((row) => [row.message_id, row]));
  for (const row of rows) byId.set(row.message_id, { ...byId.get(row.message_id), ...row });
  return [...byId.values()].sort(byPlace);
}

/** Two that were written at once may be stored the other way round than their times say: those are the last resort. */
function byPlace(a: MessageRow, b: MessageRow): number {
  if (a.seq !== undefined && b.seq !== undefined) return a.seq - b.seq;
  return compare(a.created_at, b.created_at) || compare(a.message_id, b.message_id);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** As it was kept. Runs kept by an older version of this app tell their steps otherwise, and are left out. */
export function fromStorage(state: Transcript): Transcript {
  const runs: Record<string, Run> = {};
  for (const run of Object.values(state.runs)) if (Array.isArray(run.steps)) runs[run.run_id] = run;
  return { ...state, runs };
}

/** What of it is worth keeping over a reload: finished things, the newest page of the newest threads. */
export function forStorage(state: Transcript): Transcript {
  const newest = Object.values(state.conversations)
    .sort((a, b) => compare(b.updated_at, a.updated_at))
    .slice(0, 10);
  const threads: Record<string, Thread> = {};
  for (const { conversation_id: id } of newest) {
    const thread = state.threads[id];
    if (thread === undefined) continue;
    const cut = thread.messages.length > 50;
    const messages = cut ? thread.messages.slice(-50) : thread.messages;
    // A cut thread is fetched again when opened: its cursor points before what was cut off.
    threads[id] = { ...thread, messages, stale: thread.stale || cut };
  }
  const runs: Record<string, Run> = {};
  for (const run of Object.values(state.runs)) if (threads[run.conversation_id] !== undefined) runs[run.run_id] = run;
  return { ...state, threads, runs, live: {}, arriving: null };
}
