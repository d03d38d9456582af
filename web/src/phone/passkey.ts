/** Who holds this device, shown by a passkey: WebAuthn Level 3 with user verification. See docs/protocol.md §7. */
import { decodeBase64url } from "../shared/base64url.ts";
import { app } from "./app.svelte.ts";
import { Problem } from "./device/http.ts";

interface PasskeyRow {
  passkey_id: string;
  device_id: string | null;
}

const ME = "/api/v1/me";

/** Browsers make passkeys for names, not for addresses. */
export function hasPasskeys(): boolean {
  return typeof PublicKeyCredential !== "undefined" && "parseCreationOptionsFromJSON" in PublicKeyCredential && !/^[\d.]+$|^\[/.test(location.hostname);
}

/** Those of the person with whom this device may show who holds it. */
export async function usablePasskeys(): Promise<string[]> {
  const { rows } = (await (await app.call("GET", `${ME}/passkeys`)).json()) as { rows: PasskeyRow[] };
  return rows.filter((row) => row.device_id === null || row.device_id === app.identity?.device_id).map((row) => row.passkey_id);
}

/** Makes one for this device. Throws what the browser throws when nobody agreed. */
export async function addPasskey(): Promise<string> {
  const begun = (await (await app.call("POST", `${ME}/passkey-options`)).json()) as { public_key: never };
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(begun.public_key);
  const credential = (await navigator.credentials.create({ publicKey })) as PublicKeyCredential;
  const name = app.identity?.device_name || "Phone";
  await app.call("POST", `${ME}/passkeys`, { name, credential: credential.toJSON() });
  return credential.id;
}

/** The passkey's answer for exactly this signed text. */
export async function assertion(signature: string, passkeys: string[]): Promise<unknown> {
  const challenge = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(signature));
  const allowCredentials = passkeys.map((id) => ({ type: "public-key" as const, id: decodeBase64url(id) }));
  try {
    const shown = await navigator.credentials.get({ publicKey: { challenge, rpId: location.hostname, allowCredentials, userVerification: "required" } });
    return (shown as PublicKeyCredential).toJSON();
  } catch {
    throw new Problem("passkey_not_shown", 0, false);
  }
}
