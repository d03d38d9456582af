/** What stands in `{origin}/pair#v=1&i=…&s=…&g=…&x=…`. */
export interface InviteLink {
  origin: string;
  invite_id: string;
  secret: string;
  /** unix seconds, advisory: the gateway decides */
  expires_at: number | null;
}

export type LinkProblem = "not_a_link" | "version" | "incomplete" | "other_gateway";

/** Reads the fragment of a pairing link; `#` in front is optional. */
export function parseFragment(fragment: string, origin: string): InviteLink | LinkProblem {
  const fields = new URLSearchParams(fragment.replace(/^#/, ""));
  if (fields.get("v") === null) return "not_a_link";
  if (fields.get("v") !== "1") return "version";
  const invite = fields.get("i");
  const secret = fields.get("s");
  if (!invite?.startsWith("inv_") || !secret) return "incomplete";
  const expiry = Number(fields.get("x"));
  return { origin, invite_id: invite, secret, expires_at: Number.isInteger(expiry) && expiry > 0 ? expiry : null };
}

/** Reads a scanned or pasted text. A link of another gateway is refused: this page's secrets stay with its own. */
export function parseScanned(text: string, ownOrigin: string): InviteLink | LinkProblem {
  let url: URL;
  try {
    url = new URL(text.trim());
  } catch {
    return "not_a_link";
  }
  if (url.pathname !== "/pair" || url.hash === "") return "not_a_link";
  if (url.origin !== ownOrigin) return "other_gateway";
  return parseFragment(url.hash, url.origin);
}

/** Upper case, no spaces or dashes, O→0, I and L→1, as the gateway normalises it. */
export function normaliseCode(typed: string): string {
  return typed.toUpperCase().replace(/[\s-]/g, "").replaceAll("O", "0").replace(/[IL]/g, "1");
}

export function isWholeCode(code: string): boolean {
  return /^[0-9A-HJKMNP-TV-Z]{8}$/.test(code);
}
