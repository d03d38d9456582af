/** Notes, to-dos and reminders as the gateway has them, and what was read last for when it is not reached. */
import { load, save } from "./device/database.ts";

export const KINDS = ["todo", "reminder", "note"] as const;
export type MemoKind = (typeof KINDS)[number];

export interface Memo {
  memo_id: string;
  kind: MemoKind;
  text: string;
  created_at: string;
  due_at: string | null;
  /** done or removed, and still on the page, so that it can be taken back */
  gone?: boolean;
  /** what the row is called on the page where it has got a new id meanwhile */
  key?: string;
}

export type Ask = (method: "GET" | "POST" | "DELETE", path: string, body?: unknown) => Promise<Response>;

export const MOST_CHARACTERS = 500;
const AT = "/api/v1/memos";

class Memos {
  rows = $state.raw<Memo[]>([]);
  /** null until the gateway or this device's own copy has said what there is */
  known = $state<"gateway" | "kept" | null>(null);
  private deviceId = "";

  async load(ask: Ask): Promise<void> {
    const answer = (await (await ask("GET", AT)).json()) as { rows: Memo[] };
    this.rows = answer.rows;
    this.known = "gateway";
    this.keep();
  }

  /** What this pairing has kept. What another one left in memory is forgotten. */
  async open(deviceId: string): Promise<void> {
    if (this.deviceId !== deviceId) {
      this.rows = [];
      this.known = null;
      this.deviceId = deviceId;
    }
    const rows = await load<Memo[]>("cache", "memos");
    if (rows === undefined || this.known !== null) return;
    this.rows = rows;
    this.known = "kept";
  }

  async add(ask: Ask, kind: MemoKind, text: string, due: string | null): Promise<void> {
    const row = await this.post(ask, kind, text, due);
    this.rows = [...this.rows, row];
    this.keep();
  }

  /** It stays on the page until the list is read anew. */
  async remove(ask: Ask, memo: Memo): Promise<void> {
    await ask("DELETE", `${AT}/${memo.memo_id}`);
    this.put(memo.memo_id, { ...memo, gone: true });
  }

  /** As a new one: the gateway has forgotten the old. */
  async restore(ask: Ask, memo: Memo): Promise<void> {
    const row = await this.post(ask, memo.kind, memo.text, memo.due_at);
    this.put(memo.memo_id, { ...row, created_at: memo.created_at, key: memo.key ?? memo.memo_id });
  }

  private async post(ask: Ask, kind: MemoKind, text: string, due: string | null): Promise<Memo> {
    return (await (await ask("POST", AT, { kind, text, ...(due === null ? {} : { due_at: due }) })).json()) as Memo;
  }

  private put(id: string, row: Memo): void {
    this.rows = this.rows.map((one) => (one.memo_id === id ? row : one));
    this.keep();
  }

  private keep(): void {
    const rows = this.rows.filter((one) => !one.gone);
    void save("cache", "memos", rows).catch(() => undefined);
  }
}

export const memos = new Memos();
