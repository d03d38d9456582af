/** The outbox on disk and on its way. The rules are in `protocol/outbox.ts`. */
import { makeUlid } from "../../shared/ulid.ts";
import { loadAll, remove, save } from "../device/database.ts";
import { Problem } from "../device/http.ts";
import { backoffMs } from "../protocol/backoff.ts";
import type { AttachedRow } from "../protocol/frames.ts";
import * as rules from "../protocol/outbox.ts";
import { LOST, type Commands } from "./commands.ts";

export class Outbox {
  items = $state.raw<rules.OutboxItem[]>([]);
  /** conversations made by the gateway for `new:` ones, for pages that still show the old name */
  renamed = $state.raw<Record<string, string>>({});
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** `onBegun` is told who answers in a conversation that a message has begun. */
  constructor(
    private readonly commands: Commands,
    private readonly onBegun: (conversation: string, agent: string) => void = () => undefined,
  ) {}

  async load(): Promise<void> {
    const stored = await loadAll<rules.OutboxItem>("outbox");
    this.items = rules.requeueAll(stored.sort((a, b) => a.created_ms - b.created_ms));
  }

  clear(): void {
    clearTimeout(this.timer);
    this.items = [];
    this.renamed = {};
  }

  /** Stored before it is sent, so that closing the page at once loses nothing. */
  async add(conversation: string, content: string, files: AttachedRow[] = [], agent = ""): Promise<void> {
    await this.apply(rules.enqueue(this.items, makeUlid(Date.now()), conversation, content, Date.now(), files, agent));
    this.flush();
  }

  async retry(id: string): Promise<void> {
    await this.apply(rules.retry(this.items, id, makeUlid(Date.now()), Date.now()));
    this.flush();
  }

  async discard(id: string): Promise<void> {
    await this.apply(rules.discard(this.items, id));
    this.flush();
  }

  linkDown(): void {
    this.items = rules.requeueAll(this.items);
  }

  flush(): void {
    for (const item of rules.sendable(this.items, Date.now())) void this.deliver(item);
  }

  private async deliver(item: rules.OutboxItem): Promise<void> {
    this.items = rules.markSending(this.items, item.id);
    const files = item.files?.length ? { files: item.files.map((file) => file.file_id) } : {};
    const target = item.conversation.startsWith("new:") ? (item.agent === undefined ? {} : { agent: item.agent }) : { conversation_id: item.conversation };
    try {
      // Stored as tried: after a crash it may have arrived, so it must not be asked about again.
      await this.store(item.id);
      const result = await this.commands.once("message.send", { ...target, content: item.content, ...files }, item.id);
      const conversation = String(result["conversation_id"]);
      if (item.conversation !== conversation && item.agent !== undefined) this.onBegun(conversation, item.agent);
      if (item.conversation !== conversation) this.renamed = { ...this.renamed, [item.conversation]: conversation };
      await this.apply(rules.markSent(this.items, item.id, conversation));
      this.flush();
    } catch (error) {
      await this.refused(item, error);
    }
  }

  private async refused(item: rules.OutboxItem, error: unknown): Promise<void> {
    const problem = error instanceof Problem ? error : new Problem("internal", 0, false);
    if (problem.code === LOST || problem.code === "unreachable") {
      // The link says when to go on; it flushes once it has caught up.
      await this.apply(rules.markLater(this.items, item.id, 0));
      if (problem.code === "unreachable") this.later(backoffMs(item.attempts, Math.random()));
    } else if (problem.retry) {
      const ms = backoffMs(item.attempts, Math.random(), problem.retryAfterS);
      await this.apply(rules.markLater(this.items, item.id, Date.now() + ms));
      this.later(ms);
    } else {
      await this.apply(rules.markFailed(this.items, item.id, problem.code));
    }
  }

  private later(ms: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush(), ms + 20);
  }

  private async apply(next: rules.OutboxItem[]): Promise<void> {
    const before = new Map(this.items.map((item) => [item.id, item]));
    this.items = next;
    const writes: Promise<void>[] = [];
    for (const item of next) {
      if (before.get(item.id) !== item) writes.push(save("outbox", item.id, item));
      before.delete(item.id);
    }
    for (const id of before.keys()) writes.push(remove("outbox", id));
    await Promise.all(writes);
  }

  private async store(id: string): Promise<void> {
    const item = this.items.find((one) => one.id === id);
    if (item !== undefined) await save("outbox", id, item);
  }
}
