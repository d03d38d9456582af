/** The browser's side of WebAuthn Level 3, in its JSON forms. */
import { call, type Me } from "./api.ts";

interface Options {
  public_key: Record<string, unknown>;
}

/** Whether this browser makes passkeys for this address: a name, no number. */
export function hasPasskeys(): boolean {
  return typeof PublicKeyCredential !== "undefined" && "parseCreationOptionsFromJSON" in PublicKeyCredential && !/^[\d.]+$|^\[/.test(location.hostname);
}

/** Throws Refused, and what the browser throws when nobody agreed. */
export async function signIn(): Promise<Me> {
  const options = await call<Options>("POST", "/api/v1/sign-in/passkey/options");
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options.public_key as never);
  const credential = (await navigator.credentials.get({ publicKey })) as PublicKeyCredential;
  return call<Me>("POST", "/api/v1/sign-in/passkey", { credential: credential.toJSON() });
}

export async function addPasskey(name: string): Promise<void> {
  const options = await call<Options>("POST", "/api/v1/me/passkey-options");
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options.public_key as never);
  const credential = (await navigator.credentials.create({ publicKey })) as PublicKeyCredential;
  await call("POST", "/api/v1/me/passkeys", { name, credential: credential.toJSON() });
}

export async function renamePasskey(passkeyId: string, name: string): Promise<void> {
  await call("PATCH", `/api/v1/me/passkeys/${passkeyId}`, { name });
}
