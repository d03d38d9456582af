import { Problem } from "../device/http.ts";
import type { StopReason } from "../protocol/closecodes.ts";
import type { LinkInput } from "../protocol/connection.ts";

/** What a refused refresh or request means for the link. */
export function judgeRefusal(error: unknown): LinkInput {
  if (!(error instanceof Problem)) return { type: "token_failed" };
  const reason = refusalOf(error.code);
  if (reason !== null) return { type: "token_refused", reason };
  return { type: "token_failed", ...(error.retryAfterS === undefined ? {} : { retryAfterS: error.retryAfterS }) };
}

export function refusalOf(code: string): StopReason | null {
  if (code === "refresh_invalid") return "pair_again";
  if (code === "device_suspended") return "suspended";
  if (code === "proof_invalid") return "credentials";
  return null;
}
