/** Deciding: the signature covers the hash of the exact text that was shown. */
import { hashText } from "../shared/base64url.ts";
import { signCompact } from "../shared/jose.ts";
import { makeUlid } from "../shared/ulid.ts";
import { app } from "./app.svelte.ts";
import { gatewayNow, Problem } from "./device/http.ts";
import { assertion } from "./passkey.ts";
import { readAction } from "./protocol/action.ts";
import type { ApprovalRow } from "./protocol/frames.ts";

export type Decision = "approve" | "deny";

export class NotShown extends Error {}

export interface Beside {
  rule?: string | null;
  /** other arguments: the exact text of the action that is to run instead */
  edited?: string | null;
  /** the two digits that the asking side shows */
  number?: string | null;
  /** with which of these passkeys to show who holds the device */
  passkeys?: string[] | null;
}

/** The row as the gateway holds it then. */
export async function decide(row: ApprovalRow, decision: Decision, reason: string, beside: Beside = {}): Promise<ApprovalRow | null> {
  const { identity } = app;
  if (identity === null) return null;
  const { rule = null, edited = null, number = null, passkeys = null } = beside;
  // Once more at the moment of signing: what is signed is what was shown, or nothing.
  if (typeof (await readAction(row)) === "string") throw new NotShown();
  const because = reason.trim() === "" ? null : reason.trim();
  const payload = {
    aud: location.origin,
    approval_id: row.approval_id,
    decision,
    action_sha256: row.action_sha256,
    edited_sha256: edited === null ? null : await hashText(edited),
    reason: because,
    iat: Math.floor(gatewayNow() / 1000),
    jti: makeUlid(Date.now()),
    ...(number === null ? {} : { number }),
    ...(rule === null ? {} : { rule_sha256: await hashText(rule) }),
  };
  const signature = await signCompact(identity.keys, { alg: "ES256", typ: "entobot-approval+jwt" }, payload);
  const shown = passkeys === null ? {} : { assertion: await assertion(signature, passkeys) };
  const data = await app.commands.send("approval.decide", {
    approval_id: row.approval_id,
    decision,
    action_sha256: row.action_sha256,
    ...(because === null ? {} : { reason: because }),
    ...(number === null ? {} : { number }),
    ...(rule === null ? {} : { rule }),
    ...(edited === null ? {} : { edited_action: edited }),
    ...shown,
    signature,
  });
  return data as unknown as ApprovalRow;
}

/** The digits, where this device asked for it; null where they are shown elsewhere. */
export async function loadNumber(approvalId: string): Promise<string | null> {
  try {
    const data = await app.commands.send("approval.number", { approval_id: approvalId });
    return data["number"] as string | null;
  } catch (error) {
    if (error instanceof Problem && error.code === "forbidden") return null;
    throw error;
  }
}

/** What is open or, with what was decided before this device knew of it, all; the cursor of the following page. */
export async function loadApprovals(state: "pending" | "all", cursor: string | null = null): Promise<string | null> {
  const data = await app.commands.send("approval.list", { state, ...(cursor === null ? {} : { cursor }) });
  app.putApprovals(data["rows"] as ApprovalRow[]);
  return (data["next"] as string | null) ?? null;
}

/** Soonest to expire first. */
export function pendingOf(approvals: Record<string, ApprovalRow>, now: number): ApprovalRow[] {
  return Object.values(approvals)
    .filter((row) => row.state === "pending" && Date.parse(row.expires_at) > now)
    .sort((a, b) => a.expires_at.localeCompare(b.expires_at));
}

export function decidedOf(approvals: Record<string, ApprovalRow>, now: number): ApprovalRow[] {
  return Object.values(approvals)
    .filter((row) => row.state !== "pending" || Date.parse(row.expires_at) <= now)
    .sort((a, b) => (b.decided_at ?? b.created_at).localeCompare(a.decided_at ?? a.created_at));
}
