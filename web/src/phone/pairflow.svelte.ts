/** The pairing page's steps: ask → claim → wait for the operator → paired. */
import { app } from "./app.svelte.ts";
import { clockOffset, Problem } from "./device/http.ts";
import * as pairing from "./device/pairing.ts";
import { suggestName } from "./device/platform.ts";
import { opened } from "./invitelink.svelte.ts";
import { backoffMs } from "./protocol/backoff.ts";
import { router } from "./router.svelte.ts";

export type Step = "ask" | "claiming" | "waiting" | "done";

class PairFlow {
  step = $state<Step>("ask");
  /** a code of the catalogue under `pair.error.` */
  problem = $state<string | null>(null);
  gateway = $state<pairing.GatewayInfo | null>(null);
  pending = $state.raw<pairing.PendingPairing | null>(null);
  unreachable = $state(false);
  clockMinutes = $state(0);
  deviceName = $state(suggestName());
  private stop: AbortController | null = null;

  /** Called when the page is shown: goes on with a claim that was already made. */
  async enter(): Promise<void> {
    if (!isSecureContext || crypto.subtle === undefined) {
      this.problem = "insecure";
      return;
    }
    const pending = await pairing.loadPending().catch(() => {
      this.problem = "storage";
      return null;
    });
    const alive = pending !== null && Date.parse(pending.expires_at) > Date.now() - 15 * 60_000;
    if (alive && opened.link === null) {
      this.pending = pending;
      this.step = "waiting";
      void this.wait();
    }
    await this.greet();
    if (this.step === "ask" && opened.link === null) await this.repeat();
  }

  /** The answer to an earlier tap was lost together with its page: the same key asks again. */
  private async repeat(): Promise<void> {
    const attempt = await pairing.loadAttempt().catch(() => null);
    if (attempt === null || this.step !== "ask" || opened.link !== null) return;
    const { ticket } = attempt;
    this.deviceName = attempt.device_name;
    // Shown again, so that there is a way on should this fail too.
    if (ticket.kind === "link") opened.take({ origin: location.origin, invite_id: ticket.invite_id, secret: ticket.secret, expires_at: null });
    await this.claim(ticket);
  }

  async greet(): Promise<void> {
    try {
      this.gateway = await pairing.askGateway();
      this.clockMinutes = Math.round(Math.abs(clockOffset()) / 60_000);
      if (this.problem === "unreachable") this.problem = null;
    } catch {
      if (this.step === "ask") this.problem ??= "unreachable";
    }
  }

  async claim(ticket: pairing.Ticket): Promise<void> {
    this.problem = null;
    this.step = "claiming";
    try {
      const name = this.deviceName.trim() || suggestName();
      this.pending = await pairing.claim(ticket, name);
      opened.clear();
      this.step = "waiting";
      void this.wait();
    } catch (error) {
      this.fail(error);
    }
  }

  async cancel(): Promise<void> {
    this.stop?.abort();
    await pairing.dropPending();
    this.pending = null;
    this.step = "ask";
  }

  leave(): void {
    this.stop?.abort();
  }

  private fail(error: unknown): void {
    this.step = "ask";
    this.problem = error instanceof Problem ? error.code : "storage";
    // What is spent or closed is of no more use; anything else may be tried again with the same link.
    if (["invite_expired", "invite_used", "invite_burned", "invite_not_found", "claim_changed"].includes(this.problem)) opened.clear();
  }

  private async wait(): Promise<void> {
    const pending = this.pending;
    if (pending === null) return;
    this.stop?.abort();
    const stop = new AbortController();
    this.stop = stop;
    for (let failures = 0; !stop.signal.aborted; ) {
      const asked = Date.now();
      try {
        const answer = await pairing.collect(pending, stop.signal);
        this.unreachable = false;
        failures = 0;
        if (answer !== null) return await this.finish(pending, answer);
        // A gateway that answers at once instead of holding the request must not be asked without a pause.
        if (Date.now() - asked < 1000) await pause(1000);
      } catch (error) {
        if (stop.signal.aborted) return;
        if (error instanceof Problem && (error.retry || error.code === "unreachable" || error.status >= 500)) {
          this.unreachable = error.code === "unreachable";
          await pause(Math.min(5000, backoffMs(failures, Math.random(), error.retryAfterS)));
          failures += 1;
          continue;
        }
        await pairing.dropPending();
        this.pending = null;
        return this.fail(error);
      }
    }
  }

  private async finish(pending: pairing.PendingPairing, answer: Parameters<typeof pairing.finish>[1]): Promise<void> {
    this.step = "done";
    const identity = await pairing.finish(pending, answer);
    await app.resume(identity, answer);
    this.step = "ask";
    this.pending = null;
    router.go("/chat/new", true);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

export const flow = new PairFlow();
