/** What is allowed without asking, as the gateway tells it; kept while the page is open. */
import type { Commands } from "./live/commands.ts";
import type { WireEvent } from "./protocol/frames.ts";

export interface RuleRow {
  rule_id: string;
  tool: string;
  /** the first says the tool, the others each an argument */
  words: string[];
  state: "active" | "ended" | "expired";
  expires_at: string;
  uses: number;
}

class Rules {
  private rows = $state.raw<Record<string, RuleRow>>({});

  active(now: number): RuleRow[] {
    return Object.values(this.rows)
      .filter((row) => row.state === "active" && Date.parse(row.expires_at) > now)
      .sort((a, b) => a.expires_at.localeCompare(b.expires_at));
  }

  async load(commands: Commands): Promise<void> {
    const data = await commands.send("approval_rule.list", {});
    this.rows = Object.fromEntries((data["rows"] as RuleRow[]).map((row) => [row.rule_id, row]));
  }

  async end(commands: Commands, ruleId: string): Promise<void> {
    this.put((await commands.send("approval_rule.end", { rule_id: ruleId })) as unknown as RuleRow);
  }

  onEvent({ type, data }: WireEvent): void {
    if (type === "approval_rule.changed") this.put(data as unknown as RuleRow);
    const used = type === "approval.allowed" ? this.rows[String(data?.["rule_id"])] : undefined;
    if (used !== undefined) this.put({ ...used, uses: used.uses + 1 });
  }

  private put(row: RuleRow): void {
    this.rows = { ...this.rows, [row.rule_id]: row };
  }
}

export const rules = new Rules();
