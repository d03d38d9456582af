/** Notes, to-dos and reminders as the gateway has them, and what was read last for when it is not reached. */
import { load, save } from "./device/database.ts";
import { turns } from "./turns.ts";

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
  /** its first id, where it has got a new one by being taken back */
  key?: string;
}

export type Ask = (method: "GET" | "POST" | "DELETE", path: string, body?: unknown) => Promise<Response>;

export const MOST_CHARACTERS = 500;
const AT = "/api/v1/memos";

/** What a row is called on the page. */
export function keyOf(memo: Memo): string {
  return memo.key ?? memo.memo_id;
}

class Memos {
  rows = $state.raw<Memo[]>([]);
  /** null until the gateway or this device's own copy has said what there is */
  known = $state<"gateway" | "kept" | null>(null);
  private deviceId = "";
  /** A tick that is taken back at once, and a list that was asked for before it, find what came of it. */
  private inTurn = turns();

  /** What is gone stays, so that it can be taken back: a list is read at any time. */
  load(ask: Ask): Promise<void> {
    return this.inTurn(async () => {
      const answer = (await (await ask("GET", AT)).json()) as { rows: Memo[] };
      this.rows = [...answer.rows, ...this.rows.filter((one) => one.gone)];
      this.known = "gateway";
      this.keep();
    });
  }

  /** What this pairing has kept. What another one left in memory is forgotten, and what is gone. */
  async open(deviceId: string): Promise<void> {
    this.rows = this.rows.filter((one) => !one.gone);
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

  add(ask: Ask, kind: MemoKind, text: string, due: string | null): Promise<void> {
    return this.inTurn(async () => {
      const row = await this.post(ask, kind, text, due);
      this.rows = [...this.rows, row];
      this.keep();
    });
  }

  /**
   * Done or removed, or taken back. A row that is gone stays until the page is opened anew; one that is taken back
   * is a new one, for the gateway has forgotten the old.
   */
  change(ask: Ask, memo: Memo, gone: boolean): Promise<void> {
    return this.inTurn(async () => {
      const now = this.rows.find((one) => keyOf(one) === keyOf(memo));
      if ((now === undefined || now.gone === true) === gone) return;
      if (now !== undefined && gone) {
        await ask("DELETE", `${AT}/${now.memo_id}`);
        return this.put({ ...now, gone });
      }
      const row = await this.post(ask, memo.kind, memo.text, memo.due_at);
      this.put({ ...row, created_at: memo.created_at, key: keyOf(memo) });
    });
  }

  private async post(ask: Ask, kind: MemoKind, text: string, due: string | null): Promise<Memo> {
    return (await (await ask("POST", AT, { kind, text, ...(due === null ? {} : { due_at: due }) })).json()) as Memo;
  }

  private put(row: Memo): void {
    const key = keyOf(row);
    const at = this.rows.findIndex((one) => keyOf(one) === key);
    this.rows = at === -1 ? [...this.rows, row] : this.rows.map((one, index) => (index === at ? row : one));
    this.keep();
  }

  private keep(): void {
    const rows = this.rows.filter((one) => !one.gone);
    void save("cache", "memos", rows).catch(() => undefined);
  }
}

export const memos = new Memos();
