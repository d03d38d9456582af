/** Deciding: the signature covers the hash of the exact text that was shown. */
import { hashText } from "../shared/base64url.ts";
import { signCompact } from "../shared/jose.ts";
import { makeUlid } from "../shared/ulid.ts";
import { app } from "./app.svelte.ts";
import { gatewayNow } from "./device/http.ts";
import { readAction } from "./protocol/action.ts";
import type { ApprovalRow } from "./protocol/frames.ts";

export type Decision = "approve" | "deny";

export class NotShown extends Error {}

export async function decide(row: ApprovalRow, decision: Decision, reason: string, rule: string | null = null): Promise<void> {
  const { identity } = app;
  if (identity === null) return;
  // Once more at the moment of signing: what is signed is what was shown, or nothing.
  if (typeof (await readAction(row)) === "string") throw new NotShown();
  const because = reason.trim() === "" ? null : reason.trim();
  const payload = {
    aud: location.origin,
    approval_id: row.approval_id,
    decision,
    action_sha256: row.action_sha256,
    edited_sha256: null,
    reason: because,
    iat: Math.floor(gatewayNow() / 1000),
    jti: makeUlid(Date.now()),
    ...(rule === null ? {} : { rule_sha256: await hashText(rule) }),
  };
  const signature = await signCompact(identity.keys, { alg: "ES256", typ: "entobot-approval+jwt" }, payload);
  await app.commands.send("approval.decide", {
    approval_id: row.approval_id,
    decision,
    action_sha256: row.action_sha256,
    ...(because === null ? {} : { reason: because }),
    ...(rule === null ? {} : { rule }),
    signature,
  });
}

/** What is open or, with what was decided before this device knew of it, all. */
export async function loadApprovals(state: "pending" | "all"): Promise<void> {
  const data = await app.commands.send("approval.list", { state });
  app.putApprovals(data["rows"] as ApprovalRow[]);
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
