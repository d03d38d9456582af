/** What the person was told and has not read: a number in the navigation, and the list behind it. */
import type { WireEvent } from "./protocol/frames.ts";

export interface NewsRow {
  notification_id: string;
  kind: string;
  priority: "critical" | "high" | "low" | "normal";
  title: string;
  body: string;
  link: string;
  path: string;
  conversation_id: string | null;
  state: string;
  created_at: string;
  attempts: { channel: string; state: string; reason: string }[];
}

type Ask = (method: "GET" | "POST", path: string) => Promise<Response>;
type Send = (name: string, data: Record<string, unknown>) => Promise<unknown>;

/** `unread`, or a kind of the gateway's own */
export const FILTERS = ["all", "unread", "message", "approval", "question", "notice", "alert"] as const;
export type Filter = (typeof FILTERS)[number];

const AT = "/api/v1/notifications";
const PAGE = 50;
const SOON_MS = 300;

class News {
  rows = $state.raw<NewsRow[]>([]);
  unread = $state(0);
  loaded = $state(false);
  filter = $state<Filter>("all");
  /** cursor of the following page, null at the end */
  next = $state<string | null>(null);
  private turn = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private ask: Ask | null = null;

  async load(ask: Ask): Promise<void> {
    this.ask = ask;
    const turn = ++this.turn;
    const page = await this.page(ask);
    if (turn !== this.turn) return; // asked for anew meanwhile, perhaps with another filter
    this.rows = page.rows;
    this.next = page.next;
    this.unread = page.unread;
    this.loaded = true;
    void this.badge();
  }

  async choose(ask: Ask, filter: Filter): Promise<void> {
    this.filter = filter;
    await this.load(ask);
  }

  async older(ask: Ask): Promise<void> {
    const cursor = this.next;
    if (cursor === null) return;
    const page = await this.page(ask, cursor);
    if (this.next !== cursor) return;
    this.rows = [...this.rows, ...page.rows];
    this.next = page.next;
  }

  private async page(ask: Ask, cursor: string | null = null): Promise<{ rows: NewsRow[]; unread: number; next: string | null }> {
    const wanted = new URLSearchParams({ limit: String(PAGE), ...(cursor === null ? {} : { cursor }) });
    if (this.filter === "unread") wanted.set("state", "open");
    else if (this.filter !== "all") wanted.set("kind", this.filter);
    return (await (await ask("GET", `${AT}?${wanted}`)).json()) as { rows: NewsRow[]; unread: number; next: string | null };
  }

  async readAll(send: Send): Promise<void> {
    await send("notification.read", {});
    this.again();
  }

  /** One that was opened, or all of a conversation that is on the screen. */
  async read(send: Send, which: { notification_id: string; channel?: "push" } | { conversation_id: string }): Promise<void> {
    if ("conversation_id" in which && this.unread === 0) return;
    await send("notification.read", which);
    this.again();
  }

  onEvent({ type }: WireEvent): void {
    if (type === "notification.created" || type === "notification.changed") this.again();
  }

  forget(): void {
    this.rows = [];
    this.unread = 0;
    this.loaded = false;
    this.ask = null;
    this.next = null;
    this.filter = "all";
    void this.badge();
  }

  private again(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void (this.ask && this.load(this.ask).catch(() => undefined)), SOON_MS);
  }

  /** The number on the app's icon, where the system shows one. */
  private async badge(): Promise<void> {
    const { setAppBadge, clearAppBadge } = navigator as { setAppBadge?: (n: number) => Promise<void>; clearAppBadge?: () => Promise<void> };
    await (this.unread > 0 ? setAppBadge?.call(navigator, this.unread) : clearAppBadge?.call(navigator))?.catch(() => undefined);
  }
}

export const news = new News();
