/** Claim and collect. A pairing under way is stored, so a reload or a locked phone continues it with the same key. */
import { encodeBase64url, hashText } from "../../shared/base64url.ts";
import { createDeviceKey, exportPublicJwk, signCompact, thumbprint, type PublicJwk } from "../../shared/jose.ts";
import { load, remove, save, wipe } from "./database.ts";
import { callOpen, callWithProof, gatewayNow, learnClock, Problem } from "./http.ts";
import { saveIdentity, type Identity, type TokenAnswer } from "./identity.ts";
import { describePlatform } from "./platform.ts";

export type Ticket = { kind: "link"; invite_id: string; secret: string } | { kind: "code"; code: string };

/** A claim that waits for the operator. */
export interface PendingPairing {
  keys: CryptoKeyPair;
  jwk: PublicJwk;
  device_name: string;
  claim_id: string;
  confirmation_code: string;
  status: "awaiting_confirmation" | "confirmed";
  gateway_name: string;
  expires_at: string;
}

export interface GatewayInfo {
  gateway_name: string;
  version: string;
}

/** Who is at the other end; also sets the clock before anything is signed. */
export async function askGateway(): Promise<GatewayInfo> {
  const response = await callOpen({ method: "GET", path: "/api/health" });
  const health = (await response.json()) as { gateway_name?: string; version: string; server_time?: unknown };
  learnClock(health.server_time);
  return { gateway_name: health.gateway_name ?? location.host, version: health.version };
}

/** A claim whose answer has not come. Stored: it may have arrived, and an invite never takes a second key. */
export interface Attempt {
  ticket: Ticket;
  device_name: string;
  keys: CryptoKeyPair;
  started_ms: number;
}

/** As long as an invite and its claim can live. */
const ATTEMPT_LIFE_MS = 20 * 60_000;

function secretOf(ticket: Ticket): string {
  return ticket.kind === "link" ? ticket.secret : ticket.code;
}

export async function loadAttempt(): Promise<Attempt | null> {
  const attempt = await load<Attempt>("device", "attempt");
  return attempt !== undefined && Date.now() - attempt.started_ms < ATTEMPT_LIFE_MS ? attempt : null;
}

async function keyFor(ticket: Ticket, deviceName: string): Promise<CryptoKeyPair> {
  const earlier = await loadAttempt();
  const keys = earlier !== null && secretOf(earlier.ticket) === secretOf(ticket) ? earlier.keys : await createDeviceKey();
  await save("device", "attempt", { ticket, device_name: deviceName, keys, started_ms: Date.now() } satisfies Attempt);
  return keys;
}

export async function claim(ticket: Ticket, deviceName: string): Promise<PendingPairing> {
  const keys = await keyFor(ticket, deviceName);
  const jwk = await exportPublicJwk(keys);
  const ask = async () => {
    const secret = secretOf(ticket);
    const invite = ticket.kind === "link" ? { invite_id: ticket.invite_id } : {};
    const proof = await signCompact(
      keys,
      { alg: "ES256", typ: "entobot-pair+jwt" },
      {
        aud: location.origin,
        ...invite,
        sth: await hashText(secret),
        iat: Math.floor(gatewayNow() / 1000),
        jti: encodeBase64url(crypto.getRandomValues(new Uint8Array(16))),
      },
    );
    return callOpen({
      method: "POST",
      path: "/api/v1/auth/pair",
      body: {
        ...invite,
        ...(ticket.kind === "link" ? { secret } : { code: secret }),
        public_key: jwk,
        device_info: { device_name: deviceName, ...describePlatform() },
        proof,
      },
    });
  };
  const response = await onceMore(ask).catch(async (error: unknown) => {
    const answered = error instanceof Problem && error.status > 0 && error.status < 500;
    if (answered) await remove("device", "attempt");
    throw error;
  });
  const answer = (await response.json()) as Omit<PendingPairing, "keys" | "jwk" | "device_name">;
  const pending: PendingPairing = {
    keys,
    jwk,
    device_name: deviceName,
    claim_id: answer.claim_id,
    confirmation_code: answer.confirmation_code,
    status: answer.status,
    gateway_name: answer.gateway_name,
    expires_at: answer.expires_at,
  };
  await save("device", "pairing", pending);
  await remove("device", "attempt");
  return pending;
}

/** A lost answer or a clock that is off: the same key may repeat its claim with a fresh proof. */
async function onceMore(ask: () => Promise<Response>): Promise<Response> {
  try {
    return await ask();
  } catch (error) {
    const again = error instanceof Problem && (error.code === "unreachable" || error.code === "proof_stale");
    if (!again) throw error;
    if (error.code === "proof_stale") await askGateway().catch(() => undefined);
    return ask();
  }
}

export async function loadPending(): Promise<PendingPairing | null> {
  return (await load<PendingPairing>("device", "pairing")) ?? null;
}

export async function dropPending(): Promise<void> {
  await remove("device", "pairing");
}

/** Waits for the operator; gives the tokens, or null while it is still open. */
export async function collect(pending: PendingPairing, signal: AbortSignal): Promise<TokenAnswer | null> {
  const path = `/api/v1/auth/pair/${pending.claim_id}/collect?wait=25`;
  const response = await callWithProof(pending, { method: "POST", path, signal });
  return response.status === 202 ? null : ((await response.json()) as TokenAnswer);
}

/** The pairing is done: this device's identity replaces whatever was there. */
export async function finish(pending: PendingPairing, answer: TokenAnswer): Promise<Identity> {
  const identity: Identity = {
    device_id: answer.device_id,
    user_id: answer.user_id,
    scopes: answer.scopes,
    device_name: pending.device_name,
    gateway_name: pending.gateway_name,
    keys: pending.keys,
    jwk: pending.jwk,
    thumbprint: await thumbprint(pending.jwk),
    refresh_token: answer.refresh_token,
    refresh_expires_ms: Date.now() + answer.refresh_expires_in * 1000,
    paired_ms: Date.now(),
  };
  await wipe();
  await saveIdentity(identity);
  // Best effort: without it the browser may drop the key when space runs short.
  void navigator.storage?.persist?.().catch(() => false);
  return identity;
}
