/** What travels on the wire, as far as this page reads it. Unknown fields and events are ignored. */
/** A file of a message; its bytes are asked for apart. */
export interface AttachedRow {
  file_id: string;
  name: string;
  media_type: string;
  size: number;
}

export interface MessageRow {
  message_id: string;
  conversation_id: string;
  role: "user" | "assistant";
  content: string;
  sender_device_id?: string | null;
  created_at: string;
  run_id?: string | null;
  error?: { code: string; message: string } | null;
  files?: AttachedRow[];
  /** Of its event: its place among all messages. A page kept by an older version of this app has rows without. */
  seq?: number | undefined;
}

export interface ConversationRow {
  conversation_id: string;
  title: string | null;
  created_at: string;
  updated_at: string;
  last_message?: { message_id: string; role: "user" | "assistant"; content: string; created_at: string } | null;
  active_run_id?: string | null;
  /** the agent that it was begun with; absent: whoever answers by default */
  agent?: string;
}

export type ApprovalState = "pending" | "approved" | "denied" | "expired" | "cancelled";

export interface ApprovalRow {
  approval_id: string;
  run_id: string;
  conversation_id: string | null;
  /** RFC 8785 text; hashed and parsed exactly as received */
  action: string;
  action_sha256: string;
  title: string;
  risk: string;
  state: ApprovalState;
  created_at: string;
  expires_at: string;
  decision?: string | null;
  decided_at?: string | null;
  decided_by_device_id?: string | null;
  /** as the event says it; a row says it in its votes */
  decided_by_sms?: boolean;
  /** for whom the agent works; absent from a gateway of an earlier version */
  for_user_id?: string;
  for_name?: string;
  quorum?: number;
  two_person?: boolean;
  needs_number?: boolean;
  needs_verification?: boolean;
  may_decide?: boolean;
  may_edit?: boolean;
  /** not asked aloud yet */
  queued?: boolean;
  votes?: VoteRow[];
}

export interface VoteRow {
  user_id: string;
  name: string;
  decision: "approve" | "deny";
  device_id: string | null;
  /** absent from a gateway of an earlier version */
  verified?: "key" | "passkey" | "sms";
  at: string;
}

export interface WireEvent {
  type: string;
  data?: Record<string, unknown>;
  [field: string]: unknown;
}

export interface EventFrame {
  type: "event";
  seq?: number;
  ts: number;
  topic: string;
  event: WireEvent;
}

export interface SnapshotFrame {
  type: "snapshot";
  seq: number;
  conversations: ConversationRow[];
  pending_approvals: ApprovalRow[];
  unread?: number;
  more?: boolean;
}

export interface ReadyFrame {
  type: "ready";
  device_id: string;
  user_id: string;
  scopes: string[];
  stream: string;
  seq: number;
  expires_in: number;
}

export interface ResetFrame {
  type: "reset";
  reason: string;
}

export interface ErrorFrame {
  type: "error";
  id?: string;
  code: string;
  message: string;
  retry: boolean;
  retry_after_s?: number;
}

export interface ResultFrame {
  type: "result";
  id: string;
  data: Record<string, unknown>;
}

export type ServerFrame =
  | { type: "hello"; nonce: string; server: string; ts: number; heartbeat_s?: number }
  | ReadyFrame
  | { type: "resume_done"; seq: number }
  | ResetFrame
  | SnapshotFrame
  | { type: "reauth"; nonce: string }
  | { type: "reauthed"; expires_in: number }
  | EventFrame
  | ResultFrame
  | ErrorFrame
  | { type: "pong" };

/** Null for anything that is not a JSON object with a type: such a frame is skipped, never fatal. */
export function parseFrame(text: string): ServerFrame | null {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && typeof (value as { type?: unknown }).type === "string") {
      return value as ServerFrame;
    }
  } catch {
    return null;
  }
  return null;
}
