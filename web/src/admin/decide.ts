/** Deciding in the dashboard: a passkey's assertion over the hash of the exact answer. See docs/protocol.md §7. */
import { canonical, readAction } from "../phone/protocol/action.ts";
import { decodeBase64url } from "../shared/base64url.ts";
import { makeUlid } from "../shared/ulid.ts";
import { answered, api, type Approval } from "./api.ts";

export class NotShown extends Error {}

/** Throws NotShown for a text that is not the announced one, Refused, and what the browser throws when nobody agreed. */
export async function decide(approval: Approval, decision: "approve" | "deny", reason: string, number: string): Promise<void> {
  if (typeof (await readAction(approval as never)) === "string") throw new NotShown();
  const because = reason.trim() === "" ? null : reason.trim();
  const digits = decision === "approve" && approval.needs_number ? { number } : {};
  const signature = canonical({
    aud: location.origin,
    approval_id: approval.approval_id,
    decision,
    action_sha256: approval.action_sha256,
    edited_sha256: null,
    reason: because,
    iat: Math.floor(Date.now() / 1000),
    jti: makeUlid(Date.now()),
    ...digits,
  });
  const { rows } = await answered(api.GET("/api/v1/me/passkeys"));
  const allowCredentials = rows.filter((row) => row.device_id === null).map((row) => ({ type: "public-key" as const, id: decodeBase64url(row.passkey_id) }));
  const challenge = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(signature));
  const shown = (await navigator.credentials.get({ publicKey: { challenge, rpId: location.hostname, allowCredentials, userVerification: "required" } })) as PublicKeyCredential;
  const data = {
    approval_id: approval.approval_id,
    decision,
    action_sha256: approval.action_sha256,
    signature,
    assertion: shown.toJSON(),
    ...(because === null ? {} : { reason: because }),
    ...digits,
  };
  await answered(api.POST("/api/v1/commands", { body: { id: makeUlid(Date.now()), name: "approval.decide", data: data as never } }));
}

/** The digits, where this person's agent asks; null where they are shown elsewhere. */
export async function loadNumber(approvalId: string): Promise<string | null> {
  const { data } = await api.GET("/api/v1/approvals/{approval_id}/number", { params: { path: { approval_id: approvalId } } });
  return data?.number ?? null;
}
