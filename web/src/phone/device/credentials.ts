/** Access tokens: in memory only, made from the refresh token, one refresh at a time over all tabs. */
import { callWithProof, Problem, type Call } from "./http.ts";
import { loadIdentity, saveIdentity, type Identity, type TokenAnswer } from "./identity.ts";

const MARGIN_MS = 30_000;

export class Credentials {
  private accessToken: string | null = null;
  private expiresMs = 0;
  private refreshing: Promise<string> | null = null;

  constructor(public identity: Identity) {}

  /** Takes the tokens of a collect, so that the first connection needs no refresh. */
  adopt(answer: TokenAnswer): void {
    this.accessToken = answer.access_token;
    this.expiresMs = Date.now() + answer.expires_in * 1000;
  }

  forget(): void {
    this.accessToken = null;
  }

  /** A token good for some time yet; `force` when the gateway has refused the one there is. */
  async token(force = false): Promise<string> {
    if (!force && this.accessToken !== null && Date.now() < this.expiresMs - MARGIN_MS) return this.accessToken;
    this.refreshing ??= this.refresh().finally(() => {
      this.refreshing = null;
    });
    return this.refreshing;
  }

  private async refresh(): Promise<string> {
    if (!("locks" in navigator)) return this.refreshOnce();
    return navigator.locks.request("entobot-refresh", () => this.refreshOnce());
  }

  private async refreshOnce(): Promise<string> {
    for (let attempt = 0; ; attempt += 1) {
      // Another tab may have used the token this one remembers.
      const stored = await loadIdentity();
      if (stored === null) throw new Problem("refresh_invalid", 401, false);
      this.identity = stored;
      try {
        const response = await callWithProof(stored, {
          method: "POST",
          path: "/api/v1/auth/refresh",
          body: { refresh_token: stored.refresh_token },
        });
        const answer = (await response.json()) as TokenAnswer;
        this.identity = {
          ...stored,
          scopes: answer.scopes ?? stored.scopes,
          refresh_token: answer.refresh_token,
          refresh_expires_ms: Date.now() + answer.refresh_expires_in * 1000,
        };
        // Stored before it is used: using it voids the one before.
        await saveIdentity(this.identity);
        this.adopt(answer);
        return answer.access_token;
      } catch (error) {
        const superseded = error instanceof Problem && error.code === "refresh_superseded";
        if (!superseded || attempt >= 2) throw error;
        await new Promise((resolve) => setTimeout(resolve, 300));
      }
    }
  }

  /** A request as this device; a refused token is refreshed and the request made once more. */
  async call(call: Call): Promise<Response> {
    try {
      return await callWithProof(this.identity, { ...call, accessToken: await this.token() });
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== "unauthenticated") throw error;
      return callWithProof(this.identity, { ...call, accessToken: await this.token(true) });
    }
  }
}
