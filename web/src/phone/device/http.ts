/** Requests with a key proof. The gateway's clock rules: its offset is learned once and the request tried again. */
import { signProof, type PublicJwk } from "../../shared/jose.ts";
import { makeUlid } from "../../shared/ulid.ts";

/** A refusal in the gateway's own words (RFC 9457), or `unreachable` when none came. */
export class Problem extends Error {
  constructor(
    readonly code: string,
    readonly status: number,
    readonly retry: boolean,
    readonly retryAfterS?: number,
    detail = "",
  ) {
    super(detail || code);
  }
}

export interface KeyHolder {
  keys: CryptoKeyPair;
  jwk: PublicJwk;
}

let clockOffsetMs = 0;

/** The gateway's time as far as known. */
export function gatewayNow(): number {
  return Date.now() + clockOffsetMs;
}

/** How far this device's clock is off, in milliseconds. */
export function clockOffset(): number {
  return clockOffsetMs;
}

/** Accepts Unix milliseconds, Unix seconds or RFC 3339. */
export function learnClock(serverTime: unknown): boolean {
  let ms = typeof serverTime === "string" ? Date.parse(serverTime) : typeof serverTime === "number" ? serverTime : Number.NaN;
  if (!Number.isFinite(ms) || ms <= 0) return false;
  if (ms < 100_000_000_000) ms *= 1000;
  clockOffsetMs = ms - Date.now();
  return true;
}

export interface Call {
  method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** path with an optional query; same origin only */
  path: string;
  body?: unknown;
  /** instead of a body: as they are */
  bytes?: Blob;
  accessToken?: string;
  signal?: AbortSignal;
  headers?: Record<string, string>;
}

export async function proofFor(holder: KeyHolder, method: string, path: string, accessToken?: string, nonce?: string) {
  return signProof(holder.keys, holder.jwk, {
    method,
    url: location.origin + path.split("?")[0],
    issuedAt: Math.floor(gatewayNow() / 1000),
    id: makeUlid(Date.now()),
    ...(accessToken === undefined ? {} : { accessToken }),
    ...(nonce === undefined ? {} : { nonce }),
  });
}

/** One request; a stale proof is made again with the learned clock, once. */
export async function callWithProof(holder: KeyHolder, call: Call): Promise<Response> {
  for (let attempt = 0; ; attempt += 1) {
    const response = await send(call, {
      DPoP: await proofFor(holder, call.method, call.path, call.accessToken),
      ...(call.accessToken === undefined ? {} : { Authorization: `DPoP ${call.accessToken}` }),
    });
    if (response.ok) return response;
    const { problem, serverTime } = await readProblem(response);
    if (problem.code === "proof_stale" && attempt === 0 && learnClock(serverTime)) continue;
    throw problem;
  }
}

/** One request without any credential. */
export async function callOpen(call: Call): Promise<Response> {
  const response = await send(call, {});
  if (response.ok) return response;
  const { problem, serverTime } = await readProblem(response);
  if (serverTime !== undefined) learnClock(serverTime);
  throw problem;
}

async function send(call: Call, headers: Record<string, string>): Promise<Response> {
  try {
    return await fetch(call.path, {
      method: call.method,
      headers: {
        ...headers,
        ...call.headers,
        ...(call.bytes === undefined ? {} : { "Content-Type": "application/octet-stream" }),
        ...(call.body === undefined ? {} : { "Content-Type": "application/json" }),
      },
      body: call.bytes ?? (call.body === undefined ? null : JSON.stringify(call.body)),
      credentials: "omit",
      cache: "no-store",
      signal: call.signal ?? null,
    });
  } catch (error) {
    if (call.signal?.aborted === true) throw error;
    throw new Problem("unreachable", 0, true);
  }
}

async function readProblem(response: Response): Promise<{ problem: Problem; serverTime: unknown }> {
  let body: Record<string, unknown> = {};
  try {
    body = (await response.json()) as Record<string, unknown>;
  } catch {
    // A proxy's own page: the status is all there is.
  }
  const code = typeof body["code"] === "string" ? body["code"] : `http_${response.status}`;
  const after = Number(body["retry_after_s"] ?? response.headers.get("Retry-After") ?? Number.NaN);
  const problem = new Problem(
    code,
    response.status,
    body["retry"] === true || response.status >= 502,
    Number.isFinite(after) ? after : undefined,
    typeof body["detail"] === "string" ? body["detail"] : "",
  );
  return { problem, serverTime: body["server_time"] };
}
