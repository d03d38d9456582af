/** Requests of a signed-in browser. The cookie is the browser's; no script sees it. */
export interface Problem {
  code: string;
  detail: string;
}

export class Refused extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail);
  }
}

/** The JSON answer, or null for an empty one. Throws Refused, and TypeError when nobody answers. */
export async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  const response = await fetch(path, {
    method,
    credentials: "same-origin",
    cache: "no-store",
    ...(body === undefined ? {} : { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }),
  });
  const text = await response.text();
  const answer: unknown = text === "" ? null : JSON.parse(text);
  if (!response.ok) throw new Refused(answer as Problem);
  return answer as T;
}

export interface Me {
  user_id: string;
  login: string;
  name: string;
  role: Role;
  scopes: string[];
  session_id: string | null;
  fresh_until: string | null;
}

export type Role = "owner" | "admin" | "operator" | "member" | "viewer";
export const ROLES: Role[] = ["owner", "admin", "operator", "member", "viewer"];

export interface Person {
  user_id: string;
  login: string;
  name: string;
  role: Role;
  state: "active" | "disabled";
}

export interface Passkey {
  passkey_id: string;
  name: string;
  is_backed_up: boolean;
  last_used_at: string | null;
}

export interface BrowserSession {
  session_id: string;
  user_agent: string;
  address: string;
  created_at: string;
  is_this: boolean;
}
