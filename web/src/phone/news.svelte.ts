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

const AT = "/api/v1/notifications";
const SOON_MS = 300;

class News {
  rows = $state.raw<NewsRow[]>([]);
  unread = $state(0);
  loaded = $state(false);
  private timer: ReturnType<typeof setTimeout> | undefined;
  private ask: Ask | null = null;

  async load(ask: Ask): Promise<void> {
    this.ask = ask;
    const page = (await (await ask("GET", `${AT}?limit=50`)).json()) as { rows: NewsRow[]; unread: number };
    this.rows = page.rows;
    this.unread = page.unread;
    this.loaded = true;
    void this.badge();
  }

  async readAll(send: Send): Promise<void> {
    await send("notification.read", {});
    this.again();
  }

  /** One that was opened, or all of a conversation that is on the screen. */
  async read(send: Send, which: { notification_id: string; channel?: "push" } | { conversation_id: string }): Promise<void> {
    if ("conversation_id" in which && !this.rows.some((row) => row.state === "open" && row.conversation_id === which.conversation_id)) return;
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
