import { encodeBase64url, encodeText, hashText } from "./base64url.ts";

/** The public half of a device key, with exactly the members the gateway accepts. */
export interface PublicJwk {
  kty: "EC";
  crv: "P-256";
  x: string;
  y: string;
}

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256" } as const;

/** A new device key whose private half no script can read, this one included. */
export async function createDeviceKey(): Promise<CryptoKeyPair> {
  return crypto.subtle.generateKey(ALGORITHM, false, ["sign", "verify"]);
}

export async function exportPublicJwk(keys: CryptoKeyPair): Promise<PublicJwk> {
  const jwk = await crypto.subtle.exportKey("jwk", keys.publicKey);
  return { kty: "EC", crv: "P-256", x: jwk.x ?? "", y: jwk.y ?? "" };
}

/** RFC 7638: the members in lexicographic order, no spaces. */
export async function thumbprint(jwk: PublicJwk): Promise<string> {
  return hashText(`{"crv":"${jwk.crv}","kty":"${jwk.kty}","x":"${jwk.x}","y":"${jwk.y}"}`);
}

/** Compact JWS, ES256. WebCrypto already yields the raw r‖s that JWS wants. */
export async function signCompact(keys: CryptoKeyPair, header: object, payload: object): Promise<string> {
  const input = `${encodeText(JSON.stringify(header))}.${encodeText(JSON.stringify(payload))}`;
  const signature = await crypto.subtle.sign(
    { name: "ECDSA", hash: "SHA-256" },
    keys.privateKey,
    new TextEncoder().encode(input),
  );
  return `${input}.${encodeBase64url(new Uint8Array(signature))}`;
}

export interface ProofInput {
  method: string;
  /** origin + path, without query or fragment */
  url: string;
  /** unix seconds, already corrected by the offset from the gateway's clock */
  issuedAt: number;
  id: string;
  nonce?: string;
  accessToken?: string;
}

/** A DPoP proof (RFC 9449) for one request. */
export async function signProof(keys: CryptoKeyPair, jwk: PublicJwk, input: ProofInput): Promise<string> {
  const payload: Record<string, unknown> = {
    htm: input.method,
    htu: input.url,
    iat: input.issuedAt,
    jti: input.id,
  };
  if (input.nonce !== undefined) payload["nonce"] = input.nonce;
  if (input.accessToken !== undefined) payload["ath"] = await hashText(input.accessToken);
  return signCompact(keys, { alg: "ES256", typ: "dpop+jwt", jwk }, payload);
}
