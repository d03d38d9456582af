/** The one object the pages read and call: identity, link, transcript, outbox. */
import { Credentials } from "./device/credentials.ts";
import { load, remove, save, wipe } from "./device/database.ts";
import { Problem, type Call } from "./device/http.ts";
import { loadIdentity, saveIdentity, type Identity, type TokenAnswer } from "./device/identity.ts";
import { Commands, type Data } from "./live/commands.ts";
import { Link } from "./live/link.ts";
import { Outbox } from "./live/outbox.svelte.ts";
import { noAcks, planAck } from "./protocol/acks.ts";
import type { StopReason } from "./protocol/closecodes.ts";
import { initialLink, type LinkState } from "./protocol/connection.ts";
import type { ConversationRow, MessageRow, ServerFrame, WireEvent } from "./protocol/frames.ts";
import * as transcript from "./protocol/transcript.ts";
import { news } from "./news.svelte.ts";
import { notices } from "./notices.svelte.ts";
import { offline } from "./offline.svelte.ts";
import { questions } from "./questions.svelte.ts";
import { rules } from "./rules.svelte.ts";

const ACK_SOON_MS = 200;
const SAVE_MS = 800;

interface Cache {
  transcript: transcript.Transcript;
  seen: Record<string, string>;
}

class App {
  ready = $state(false);
  identity = $state.raw<Identity | null>(null);
  link = $state.raw<LinkState>(initialLink);
  transcript = $state.raw<transcript.Transcript>(transcript.emptyTranscript);
  stop = $state.raw<StopReason | null>(null);
  /** the newest message read in each conversation, by its time */
  seen = $state.raw<Record<string, string>>({});
  /** ticks every 15 s, so that relative times and expiries move */
  now = $state(Date.now());
  /** null until the gateway has answered once in this session */
  synced = $state(false);

  /** the notification whose tap opened this window, until the gateway was told */
  opened: string | null = null;

  private connection: Link | null = null;
  private credentials: Credentials | null = null;
  private acks = noAcks;
  private ackTimer: ReturnType<typeof setTimeout> | undefined;
  private saveTimer: ReturnType<typeof setTimeout> | undefined;

  readonly commands = new Commands({
    mode: () => this.connection?.mode() ?? "none",
    sendFrame: (frame) => this.connection?.send(frame),
    post: (id, name, data) => this.post(id, name, data),
  });
  readonly outbox = new Outbox(this.commands, (conversation, agent) => {
    this.transcript = transcript.putAgent(this.transcript, conversation, agent, Date.now());
  });

  get online(): boolean {
    return this.link.phase === "live" || this.link.phase === "streaming_http";
  }

  async start(): Promise<void> {
    setInterval(() => (this.now = Date.now()), 15_000);
    this.watchPage();
    const identity = await loadIdentity();
    if (identity !== null) await this.resume(identity, null);
    this.ready = true;
  }

  /** Takes over the identity of a pairing that has just ended, or of an earlier visit. */
  async resume(identity: Identity, answer: TokenAnswer | null): Promise<void> {
    this.connection?.input({ type: "shutdown" });
    this.identity = identity;
    this.stop = null;
    this.synced = false;
    const cache = await load<Cache>("cache", "transcript").catch(() => undefined);
    this.transcript = cache === undefined ? transcript.emptyTranscript : transcript.fromStorage(cache.transcript);
    this.seen = cache?.seen ?? {};
    await this.outbox.load();
    const credentials = new Credentials(identity);
    if (answer !== null) credentials.adopt(answer);
    this.credentials = credentials;
    this.connection = new Link(credentials, {
      resumePoint: () => {
        const { stream, seq } = this.transcript;
        return stream === null ? null : { stream, after: seq };
      },
      onFrame: (frame, stream) => this.receive(frame, stream),
      onState: (state) => this.linkChanged(state),
      onStopped: (reason) => void this.stopped(reason),
    });
    this.connection.input({ type: "start" });
    if (!navigator.onLine) this.connection.input({ type: "offline" });
  }

  retryNow(): void {
    this.stop = null;
    this.connection?.input({ type: "retry" });
  }

  async call(method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE", path: string, body?: unknown): Promise<Response> {
    return this.request({ method, path, body });
  }

  async request(call: Omit<Call, "accessToken">): Promise<Response> {
    if (this.credentials === null) throw new Problem("unauthenticated", 401, false);
    return this.credentials.call(call);
  }

  async loadHistory(conversationId: string, older: boolean): Promise<void> {
    const before = older ? this.transcript.threads[conversationId]?.older : undefined;
    if (older && !before) return;
    const data = await this.commands.send("conversation.history", {
      conversation_id: conversationId,
      limit: 50,
      ...(before ? { before } : {}),
    });
    const rows = data["rows"] as MessageRow[];
    const next = (data["next"] as string | null) ?? null;
    this.transcript = transcript.applyHistory(this.transcript, conversationId, rows, next, !older);
    this.scheduleSave();
  }

  markSeen(conversationId: string): void {
    const last = this.transcript.conversations[conversationId]?.last_message?.created_at;
    if (last === undefined || document.hidden || this.seen[conversationId] === last) return;
    this.seen = { ...this.seen, [conversationId]: last };
    this.scheduleSave();
    if (this.online) void news.read((name, data) => this.commands.send(name, data), { conversation_id: conversationId }).catch(() => undefined);
  }

  async renameConversation(conversationId: string, title: string): Promise<void> {
    await this.commands.send("conversation.rename", { conversation_id: conversationId, title });
    const row = this.transcript.conversations[conversationId];
    if (row === undefined) return;
    const conversations = { ...this.transcript.conversations, [conversationId]: { ...row, title } };
    this.transcript = { ...this.transcript, conversations };
    this.scheduleSave();
  }

  async rename(name: string): Promise<void> {
    await this.commands.send("device.rename", { device_name: name });
    await this.keepName(name);
  }

  /** The gateway's name for this device rules: somebody may have changed it there. */
  async learnName(): Promise<void> {
    if (this.identity === null) return;
    const response = await this.call("GET", `/api/v1/devices/${this.identity.device_id}`);
    const { device_name: name } = (await response.json()) as { device_name?: string };
    if (name) await this.keepName(name);
  }

  private async keepName(name: string): Promise<void> {
    if (this.identity === null || this.identity.device_name === name) return;
    // The stored record is newer than ours: a refresh may have put another token there.
    const stored = (await loadIdentity()) ?? this.identity;
    this.identity = { ...stored, device_name: name };
    await saveIdentity(this.identity);
  }

  async unpair(): Promise<void> {
    if (this.identity === null) return;
    await this.call("DELETE", `/api/v1/devices/${this.identity.device_id}`);
    await this.forget();
  }

  /** Ends here and now: closes, forgets the key, the tokens, every message and draft. */
  async forget(because: StopReason | null = null): Promise<void> {
    this.connection?.input({ type: "shutdown" });
    this.connection = null;
    this.credentials = null;
    clearTimeout(this.saveTimer);
    this.saveTimer = undefined;
    await wipe();
    this.stop = because;
    this.identity = null;
    this.transcript = transcript.emptyTranscript;
    this.outbox.clear();
    news.forget();
  }

  putApprovals(rows: Parameters<typeof transcript.putApproval>[1][]): void {
    this.transcript = rows.reduce(transcript.putApproval, this.transcript);
  }

  private async post(id: string, name: string, data: Data): Promise<Data> {
    if (this.credentials === null) throw new Problem("unauthenticated", 401, false);
    const response = await this.credentials.call({ method: "POST", path: "/api/v1/commands", body: { id, name, data } });
    const answer = (await response.json()) as { data?: Data };
    return answer.data ?? (answer as Data);
  }

  private receive(frame: ServerFrame, stream?: string): void {
    switch (frame.type) {
      case "ready":
        this.transcript = transcript.beginStream(this.transcript, frame.stream);
        this.acks = noAcks;
        break;
      case "reset":
        this.transcript = transcript.applyReset(this.transcript);
        break;
      case "snapshot":
        this.transcript = transcript.applySnapshot(this.transcript, frame);
        this.followStream(stream);
        if (frame.more !== true) this.caughtUp();
        break;
      case "resume_done":
        this.caughtUp();
        break;
      case "event":
        this.followStream(stream);
        this.transcript = transcript.applyEvent(this.transcript, frame);
        if (frame.event.type === "RUN_FINISHED") this.learnTitles();
        if (frame.seq !== undefined) this.ack();
        if (this.isOwnChange(frame.event)) void this.learnName().catch(() => undefined);
        rules.onEvent(frame.event);
        questions.onEvent(frame.event);
        news.onEvent(frame.event);
        notices.onEvent(frame.event, this.identity?.device_id ?? "");
        break;
      case "result":
      case "error":
        this.commands.answered(frame);
        break;
      default:
        return;
    }
    this.scheduleSave();
  }

  private isOwnChange({ type, data }: WireEvent): boolean {
    return type === "device.changed" && data?.["change"] === "renamed" && data["device_id"] === this.identity?.device_id;
  }

  /** No event tells a title; the gateway may have made one while the first answer was written. */
  private learnTitles(): void {
    if (Object.values(this.transcript.conversations).every((row) => row.title)) return;
    void this.commands.send("conversation.list", {}).then(
      (data) => {
        this.transcript = transcript.putConversations(this.transcript, data["rows"] as ConversationRow[]);
        this.scheduleSave();
      },
      () => undefined,
    );
  }

  /** Over HTTP there is no `ready`: the stream's id comes with the events. */
  private followStream(stream: string | undefined): void {
    if (stream === undefined || stream === this.transcript.stream) return;
    this.transcript = { ...this.transcript, stream };
  }

  private caughtUp(): void {
    // The gateway was away: perhaps it was upgraded meanwhile.
    if (this.synced) offline.look(Date.now(), true);
    this.synced = true;
    this.ack();
    this.outbox.flush();
    // Questions stand in no snapshot: few have any.
    if (this.identity?.scopes.includes("notify")) void questions.load(this.commands).catch(() => undefined);
    if (this.opened !== null) this.openedNow(this.opened);
    if (this.may("notify")) void this.catchUpNews().catch(() => undefined);
  }

  /** A notification that was opened: at once, or as soon as the gateway is reached. */
  openedNow(notificationId: string, byPush = true): void {
    this.opened = null;
    const which = { notification_id: notificationId, ...(byPush ? { channel: "push" as const } : {}) };
    void news.read((name, data) => this.commands.send(name, data), which).catch(() => undefined);
  }

  may(scope: string): boolean {
    return this.identity?.scopes.includes(scope) ?? false;
  }

  /** What came while this page was away, and the subscription that the browser may have let end. */
  private async catchUpNews(): Promise<void> {
    await news.load((method, path) => this.call(method, path));
    await this.renewPush();
  }

  /** Tells the gateway the subscription of this browser, and makes a new one where the browser let the old one end. */
  async renewPush(): Promise<void> {
    if (!("Notification" in window) || Notification.permission !== "granted") return;
    const [{ push }, places] = await Promise.all([import("./push.svelte.ts"), this.call("GET", "/api/v1/notifications/places")]);
    const { push_key: key } = (await places.json()) as { push_key: string };
    await push.look(key, (name, data) => this.commands.send(name, data));
  }

  private ack(): void {
    this.acks = { ...this.acks, unacked: this.acks.unacked + 1 };
    const plan = planAck(this.acks, !document.hidden);
    if (plan === "now") this.sendAck();
    else if (plan === "soon") this.ackTimer ??= setTimeout(() => this.sendAck(), ACK_SOON_MS);
  }

  private sendAck(): void {
    clearTimeout(this.ackTimer);
    this.ackTimer = undefined;
    const { seq } = this.transcript;
    if (seq === 0 || seq === this.acks.acked) return;
    this.acks = { acked: seq, unacked: 0 };
    const mode = this.connection?.mode();
    if (mode === "socket") this.connection?.send({ type: "ack", seq });
    else if (mode === "http") void this.commands.send("events.ack", { seq }).catch(() => undefined);
  }

  private linkChanged(state: LinkState): void {
    const was = this.online;
    this.link = state;
    if (state.stop === null) this.stop = null;
    if (was && !this.online) {
      this.commands.linkDown();
      this.outbox.linkDown();
    }
    if (!was && this.online) {
      this.commands.linkUp();
      // Over HTTP nothing says "caught up" after a resume, so being open has to do.
      if (state.phase === "streaming_http") this.caughtUp();
    }
  }

  private async stopped(reason: StopReason): Promise<void> {
    // Said by the gateway over a verified link: nothing of this pairing may stay on the phone.
    if (reason === "revoked") await this.forget(reason);
    else this.stop = reason;
  }

  private scheduleSave(): void {
    this.saveTimer ??= setTimeout(() => void this.saveNow(), SAVE_MS);
  }

  private async saveNow(): Promise<void> {
    clearTimeout(this.saveTimer);
    this.saveTimer = undefined;
    if (this.identity === null) return;
    const cache: Cache = { transcript: transcript.forStorage(this.transcript), seen: this.seen };
    // Without room the page still works; it only starts from a snapshot next time.
    await save("cache", "transcript", cache).catch(() => remove("cache", "transcript").catch(() => undefined));
  }

  /** A frozen page believes anything: each way of coming back reconciles with the gateway. */
  private watchPage(): void {
    const wake = () => {
      this.now = Date.now();
      offline.look(this.now);
      this.connection?.input({ type: "wake" });
      if (this.acks.unacked > 0) this.sendAck();
    };
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) void this.saveNow();
      else wake();
    });
    addEventListener("pageshow", (event) => {
      if (event.persisted) wake();
    });
    addEventListener("pagehide", () => void this.saveNow());
    addEventListener("online", wake);
    addEventListener("offline", () => this.connection?.input({ type: "offline" }));
  }
}

export const app = new App();
