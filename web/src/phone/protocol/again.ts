/** Which message may be sent once more, because its run ended without an answer and another try may bring one. */
import type { ChatRow } from "./rows.ts";

/** Run errors that the gateway calls retryable. A tool that may have acted is not among them. */
export const AGAIN: ReadonlySet<string> = new Set([
  "agent_not_ready",
  "empty_answer",
  "gateway_restarted",
  "internal",
  "provider_error",
  "provider_rate_limited",
  "provider_timeout",
  "provider_unreachable",
]);

export interface Again {
  /** the row that tells the error */
  key: string;
  content: string;
}

/** Only the last thing that was said: before it, the talk has gone on. */
export function sendAgain(rows: ChatRow[]): Again | null {
  let said: (ChatRow & { kind: "message" }) | null = null;
  let failed: string | null = null;
  for (const row of rows) {
    if (row.kind === "message") {
      said = row.own ? row : null;
      failed = null;
    }
    if (row.kind === "outgoing" || row.kind === "live") return null;
    // One whose message is not loaded stands at the end: it is an older one.
    if (row.kind === "run" && row.run.after !== said?.message.message_id) continue;
    const code = row.kind === "message" ? row.message.error?.code : row.run.error?.code;
    if (said !== null && code !== undefined && AGAIN.has(code)) failed = row.key;
  }
  // Its files belong to it: another message cannot have them.
  return said === null || failed === null || said.message.files !== undefined ? null : { key: failed, content: said.message.content };
}
