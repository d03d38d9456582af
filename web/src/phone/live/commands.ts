/** Commands and their answers over whichever link there is. One id for life: sending again is always safe. */
import { makeUlid } from "../../shared/ulid.ts";
import { Problem } from "../device/http.ts";
import type { ErrorFrame, ResultFrame } from "../protocol/frames.ts";

export type Data = Record<string, unknown>;

export interface Transport {
  mode(): "socket" | "http" | "none";
  sendFrame(frame: object): void;
  post(id: string, name: string, data: Data): Promise<Data>;
}

interface Waiting {
  resolve(data: Data): void;
  reject(problem: Problem): void;
  deadline: ReturnType<typeof setTimeout>;
}

const ANSWER_MS = 20_000;
const PATIENCE_MS = 60_000;

/** The link ended before the answer came: nobody knows whether it was done, so the same id is sent again. */
export const LOST = "connection_lost";

export class Commands {
  private waiting = new Map<string, Waiting>();
  private onUp: (() => void)[] = [];

  constructor(private readonly transport: Transport) {}

  /** One try. Fails with `connection_lost` if the link is not there or goes away. */
  once(name: string, data: Data, id: string): Promise<Data> {
    const mode = this.transport.mode();
    if (mode === "none") return Promise.reject(lost());
    if (mode === "http") return this.transport.post(id, name, data);
    return new Promise((resolve, reject) => {
      const deadline = setTimeout(() => this.settle(id)?.reject(lost()), ANSWER_MS);
      this.waiting.set(id, { resolve, reject, deadline });
      this.transport.sendFrame({ type: "command", id, name, data });
    });
  }

  /** Tries again under the same id for a minute, waiting for the link to come back. */
  async send(name: string, data: Data): Promise<Data> {
    const id = makeUlid(Date.now());
    const until = Date.now() + PATIENCE_MS;
    for (;;) {
      try {
        return await this.once(name, data, id);
      } catch (error) {
        const again = error instanceof Problem && (error.code === LOST || error.code === "unreachable");
        if (!again || Date.now() > until) throw error;
        await this.up(until - Date.now());
      }
    }
  }

  answered(frame: ResultFrame | ErrorFrame): void {
    if (frame.id === undefined) return;
    const waiting = this.settle(frame.id);
    if (waiting === undefined) return;
    if (frame.type === "result") waiting.resolve(frame.data);
    else waiting.reject(new Problem(frame.code, 0, frame.retry, frame.retry_after_s, frame.message));
  }

  linkUp(): void {
    for (const wake of this.onUp.splice(0)) wake();
  }

  linkDown(): void {
    for (const id of [...this.waiting.keys()]) this.settle(id)?.reject(lost());
  }

  private settle(id: string): Waiting | undefined {
    const waiting = this.waiting.get(id);
    if (waiting !== undefined) clearTimeout(waiting.deadline);
    this.waiting.delete(id);
    return waiting;
  }

  private async up(ms: number): Promise<void> {
    if (this.transport.mode() !== "none") {
      await new Promise((resolve) => setTimeout(resolve, 1000));
      return;
    }
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, Math.max(0, ms));
      this.onUp.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}

function lost(): Problem {
  return new Problem(LOST, 0, true);
}
