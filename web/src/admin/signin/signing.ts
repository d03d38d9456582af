/** Signing in, whichever way, on the first page and where a fresh sign-in is wanted. */
import { admin } from "../admin.svelte.ts";
import { answered, api, Refused, type Me } from "../api.ts";
import { t } from "../strings.ts";

/** What waited for a fresh sign-in goes on, where it is still the same person. */
export async function signedIn(me: Me): Promise<void> {
  const again = admin.me?.user_id === me.user_id ? admin.waiting : null;
  admin.me = me;
  admin.waiting = null;
  if (again !== null) await admin.doing(again);
}

/** Throws Refused; its code `totp_required` asks for the second step. */
export const signInByPassword = (login: string, password: string, code: string | null): Promise<Me> =>
  answered(api.POST("/api/v1/sign-in/password", { body: { login, password, ...(code === null ? {} : { code }) } }));

/** What went wrong, for the person. */
export function said(error: unknown): string {
  if (error instanceof Refused) return error.problem.detail;
  return error instanceof DOMException ? t("signin.cancelled") : t("app.unreachable");
}
