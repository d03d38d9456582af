/** Carries out what `protocol/connection.ts` decides: sockets, streams, timers, tokens. */
import type { Credentials } from "../device/credentials.ts";
import { callOpen, learnClock, proofFor } from "../device/http.ts";
import type { StopReason } from "../protocol/closecodes.ts";
import { initialLink, stepLink, type LinkEffect, type LinkInput, type LinkState } from "../protocol/connection.ts";
import { parseFrame, type ServerFrame } from "../protocol/frames.ts";
import { openStream } from "./eventstream.ts";
import { judgeRefusal } from "./refusals.ts";

export interface LinkHooks {
  /** where to go on from, or null when nothing is known */
  resumePoint(): { stream: string; after: number } | null;
  onFrame(frame: ServerFrame, stream?: string): void;
  onState(state: LinkState): void;
  onStopped(reason: StopReason): void;
}

const GREETING_MS = 10_000;
const PROBE_MS = 1_500;
const QUIET_MS = 25_000;

export class Link {
  state: LinkState = initialLink;
  private socket: WebSocket | null = null;
  private stream: AbortController | null = null;
  private waitTimer: ReturnType<typeof setTimeout> | undefined;
  private deadline: ReturnType<typeof setTimeout> | undefined;
  private quiet: ReturnType<typeof setTimeout> | undefined;
  private authenticated = false;

  constructor(
    private readonly credentials: Credentials,
    private readonly hooks: LinkHooks,
  ) {}

  input(input: LinkInput): void {
    const [next, effects] = stepLink(this.state, input, Math.random());
    const changed = next !== this.state;
    this.state = next;
    for (const effect of effects) this.perform(effect);
    if (changed) this.hooks.onState(this.state);
  }

  mode(): "socket" | "http" | "none" {
    if (this.state.phase === "live") return "socket";
    return this.state.phase === "streaming_http" ? "http" : "none";
  }

  send(frame: object): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }

  private perform(effect: LinkEffect): void {
    switch (effect.type) {
      case "refresh":
        void this.refresh(effect.force);
        break;
      case "open_socket":
        this.openSocket();
        break;
      case "open_http":
        this.openHttp();
        break;
      case "authenticate":
        void this.authenticate(effect.nonce);
        break;
      case "close":
        this.close();
        break;
      case "ask_health":
        void callOpen({ method: "GET", path: "/api/health" }).then(
          () => this.input({ type: "health", ok: true }),
          () => this.input({ type: "health", ok: false }),
        );
        break;
      case "probe":
        this.probe(PROBE_MS);
        break;
      case "wait":
        clearTimeout(this.waitTimer);
        this.waitTimer = setTimeout(() => this.input({ type: "timer" }), effect.ms);
        break;
      case "stopped":
        this.hooks.onStopped(effect.reason);
        break;
    }
  }

  private async refresh(force: boolean): Promise<void> {
    try {
      await this.credentials.token(force);
      this.input({ type: "token_ready" });
    } catch (error) {
      // Without any network it is not the gateway that does not answer.
      const verdict = judgeRefusal(error);
      this.input(verdict.type === "token_failed" && !navigator.onLine ? { type: "offline" } : verdict);
    }
  }

  private openSocket(): void {
    const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/ws`, ["entobot.v1"]);
    this.socket = socket;
    this.authenticated = false;
    let retryAfterS: number | undefined;
    // A proxy that swallows the upgrade looks like a socket that never speaks.
    this.deadline = setTimeout(() => this.drop(socket, 1006), GREETING_MS);
    socket.onmessage = (message) => {
      if (this.socket !== socket || typeof message.data !== "string") return;
      const frame = parseFrame(message.data);
      if (frame === null) return;
      if (frame.type === "error" && frame.id === undefined) retryAfterS = frame.retry_after_s;
      this.heard(frame);
    };
    socket.onclose = (event) => {
      if (this.socket !== socket) return;
      this.release();
      this.input({ type: "closed", code: event.code, ...(retryAfterS === undefined ? {} : { retryAfterS }) });
    };
  }

  private heard(frame: ServerFrame): void {
    clearTimeout(this.deadline);
    clearTimeout(this.quiet);
    this.quiet = setTimeout(() => this.probe(QUIET_MS / 2), QUIET_MS);
    if (frame.type === "hello") {
      learnClock(frame.ts);
      this.input({ type: "hello", nonce: frame.nonce });
    } else if (frame.type === "reauth") {
      this.input({ type: "reauth", nonce: frame.nonce });
    } else {
      this.hooks.onFrame(frame);
      if (frame.type === "ready") this.input({ type: "ready" });
    }
  }

  private async authenticate(nonce: string): Promise<void> {
    const socket = this.socket;
    try {
      // A socket that asks again wants a newer token than the one it knows.
      const token = await this.credentials.token(this.authenticated);
      this.authenticated = true;
      const proof = await proofFor(this.credentials.identity, "GET", "/ws", token, nonce);
      if (this.socket !== socket) return;
      this.send({ type: "auth", token, proof, resume: this.hooks.resumePoint() });
    } catch (error) {
      if (this.socket !== socket) return;
      const verdict = judgeRefusal(error);
      if (verdict.type === "token_refused") this.input(verdict);
      else if (socket !== null) this.drop(socket, 4001);
    }
  }

  /** Asks for a sign of life; a socket that gives none is dead whatever the browser says. */
  private probe(ms: number): void {
    const socket = this.socket;
    if (socket === null) return;
    this.send({ type: "ping" });
    clearTimeout(this.deadline);
    this.deadline = setTimeout(() => this.drop(socket, 4001), ms);
  }

  private drop(socket: WebSocket, as: number): void {
    if (this.socket !== socket) return;
    this.close();
    this.input({ type: "closed", code: as });
  }

  private openHttp(): void {
    const abort = new AbortController();
    this.stream = abort;
    void openStream(this.credentials, this.hooks.resumePoint(), abort.signal, {
      onOpen: () => this.input({ type: "http_open" }),
      onFrame: (frame, stream) => this.hooks.onFrame(frame, stream),
    }).then((end) => {
      if (this.stream !== abort) return;
      this.stream = null;
      clearTimeout(this.waitTimer);
      if (end.refusal !== undefined) this.input({ type: "token_refused", reason: end.refusal });
      else if (end.code !== undefined) this.input({ type: "closed", code: end.code });
      else this.input({ type: "http_closed", status: end.status, ...(end.retryAfterS === undefined ? {} : { retryAfterS: end.retryAfterS }) });
    });
  }

  private close(): void {
    const { socket, stream } = this;
    this.release();
    socket?.close(1000);
    stream?.abort();
  }

  private release(): void {
    this.socket = null;
    this.stream = null;
    clearTimeout(this.waitTimer);
    clearTimeout(this.deadline);
    clearTimeout(this.quiet);
  }
}
