/** Who this device is to the gateway. The key never leaves WebCrypto; the refresh token stands beside it. */
import type { PublicJwk } from "../../shared/jose.ts";
import { load, save } from "./database.ts";

export interface Identity {
  device_id: string;
  user_id: string;
  scopes: string[];
  device_name: string;
  gateway_name: string;
  keys: CryptoKeyPair;
  jwk: PublicJwk;
  thumbprint: string;
  refresh_token: string;
  /** unix milliseconds; after it, pair again */
  refresh_expires_ms: number;
  paired_ms: number;
}

export async function loadIdentity(): Promise<Identity | null> {
  return (await load<Identity>("device", "identity")) ?? null;
}

export async function saveIdentity(identity: Identity): Promise<void> {
  await save("device", "identity", identity);
}

/** What collect and refresh answer. */
export interface TokenAnswer {
  device_id: string;
  user_id: string;
  scopes: string[];
  access_token: string;
  expires_in: number;
  refresh_token: string;
  refresh_expires_in: number;
}
