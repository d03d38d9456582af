/** What programs ask, as the gateway tells it; kept while the page is open. */
import type { Commands } from "./live/commands.ts";
import type { WireEvent } from "./protocol/frames.ts";

export type FieldKind = "boolean" | "choice" | "choices" | "integer" | "number" | "text";
export type Value = string | number | boolean | string[];

export interface Field {
  name: string;
  kind: FieldKind;
  title: string;
  description: string;
  required: boolean;
  options: { value: string; title: string }[];
  minimum: number | null;
  maximum: number | null;
  format: "date" | "date-time" | "email" | "uri" | null;
  default: Value | null;
}

export type QuestionState = "answered" | "cancelled" | "declined" | "expired" | "open";

export interface QuestionRow {
  question_id: string;
  kind: "choice" | "form" | "text";
  title: string;
  text: string;
  fields: Field[];
  state: QuestionState;
  created_at: string;
  expires_at: string;
  closed_at: string | null;
  answer?: Value | Record<string, Value>;
}

export function stateOf(row: QuestionRow, now: number): QuestionState {
  return row.state === "open" && Date.parse(row.expires_at) <= now ? "expired" : row.state;
}

class Questions {
  rows = $state.raw<Record<string, QuestionRow>>({});

  /** Soonest to expire first. */
  open(now: number): QuestionRow[] {
    return Object.values(this.rows)
      .filter((row) => stateOf(row, now) === "open")
      .sort((a, b) => a.expires_at.localeCompare(b.expires_at));
  }

  /** What is open, and with `all` what this device may have missed the end of. */
  async load(commands: Commands, state: "open" | "all" = "open"): Promise<void> {
    const data = await commands.send("question.list", { state });
    const rows = data["rows"] as QuestionRow[];
    const kept = state === "all" ? this.rows : Object.fromEntries(Object.entries(this.rows).filter(([, row]) => row.state !== "open"));
    this.rows = { ...kept, ...Object.fromEntries(rows.map((row) => [row.question_id, row])) };
  }

  async answer(commands: Commands, id: string, answer: Value | Record<string, Value>): Promise<void> {
    this.put((await commands.send("question.answer", { question_id: id, answer })) as unknown as QuestionRow);
  }

  async decline(commands: Commands, id: string): Promise<void> {
    this.put((await commands.send("question.decline", { question_id: id })) as unknown as QuestionRow);
  }

  onEvent({ type, data }: WireEvent): void {
    if (type === "question.asked") this.put(data as unknown as QuestionRow);
    const row = type === "question.closed" ? this.rows[String(data?.["question_id"])] : undefined;
    if (row?.state === "open") this.put({ ...row, state: data?.["state"] as QuestionState, closed_at: String(data?.["at"]) });
  }

  private put(row: QuestionRow): void {
    // An event that was on its way must not open again what this device has closed.
    const known = this.rows[row.question_id];
    if (known !== undefined && known.state !== "open" && row.state === "open") return;
    this.rows = { ...this.rows, [row.question_id]: row };
  }
}

export const questions = new Questions();
