/** Why the page has stopped trying by itself. Each has a sentence and a way on in the catalogue. */
export type StopReason =
  | "revoked"
  | "suspended"
  | "credentials"
  | "protocol"
  | "too_many"
  | "too_large"
  | "pair_again";

export type CloseVerdict =
  | { kind: "retry"; cause: "draining" | "silence" | "slow" | "limited" | "lost" }
  | { kind: "refresh" }
  | { kind: "stop"; reason: StopReason };

/** 4000–4499 come back, 4500–4999 do not; everything below 4000 is the network's doing. */
export function judgeClose(code: number): CloseVerdict {
  switch (code) {
    case 1012:
    case 4000:
      return { kind: "retry", cause: "draining" };
    case 4001:
      return { kind: "retry", cause: "silence" };
    case 4002:
      return { kind: "retry", cause: "slow" };
    case 4003:
      return { kind: "refresh" };
    case 4004:
      return { kind: "retry", cause: "limited" };
    case 4500:
      return { kind: "stop", reason: "credentials" };
    case 4501:
      return { kind: "stop", reason: "revoked" };
    case 4502:
      return { kind: "stop", reason: "suspended" };
    case 4503:
      return { kind: "stop", reason: "protocol" };
    case 4504:
      return { kind: "stop", reason: "too_many" };
    case 4505:
      return { kind: "stop", reason: "too_large" };
    default:
      return code >= 4500 && code <= 4999 ? { kind: "stop", reason: "protocol" } : { kind: "retry", cause: "lost" };
  }
}
