/** The browser's side of WebAuthn Level 3, in its JSON forms. */
import { answered, api, type Me } from "./api.ts";

/** Whether this browser makes passkeys for this address: a name, no number. */
export function hasPasskeys(): boolean {
  return typeof PublicKeyCredential !== "undefined" && "parseCreationOptionsFromJSON" in PublicKeyCredential && !/^[\d.]+$|^\[/.test(location.hostname);
}

/** Throws Refused, and what the browser throws when nobody agreed. */
export async function signIn(): Promise<Me> {
  const options = await answered(api.POST("/api/v1/sign-in/passkey/options"));
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options.public_key as never);
  const credential = (await navigator.credentials.get({ publicKey })) as PublicKeyCredential;
  return answered(api.POST("/api/v1/sign-in/passkey", { body: { credential: credential.toJSON() as Record<string, never> } }));
}

export async function addPasskey(name: string): Promise<void> {
  const options = await answered(api.POST("/api/v1/me/passkey-options"));
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options.public_key as never);
  const credential = (await navigator.credentials.create({ publicKey })) as PublicKeyCredential;
  await answered(api.POST("/api/v1/me/passkeys", { body: { name, credential: credential.toJSON() as Record<string, never> } }));
}

export async function renamePasskey(passkeyId: string, name: string): Promise<void> {
  await answered(api.PATCH("/api/v1/me/passkeys/{passkey_id}", { params: { path: { passkey_id: passkeyId } }, body: { name } }));
}
