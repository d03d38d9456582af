/** Rules as the gateway tells of them. */
import type { Value } from "./things.ts";

export interface When { thing?: string | null; type?: string | null; reading?: string | null; above?: number | null; below?: number | null; equals?: Value | null; differs?: Value | null; for_minutes?: number; status?: string | null; at?: string | null; days?: string[]; every_minutes?: number | null; zone?: string }

export interface Then { do: "notify" | "command" | "ask"; to?: string; command?: string | null; thing?: string | null }

export interface Automation { automation_id: string; name: string; is_on: boolean; why_off: string; thing: string; things: Record<string, string>; fired: number; fired_at: string | null; next_at: string | null; rule: { when: When; then: Then[] } }

export interface Firing { firing_id: string; state: "fired" | "looped" | "missed" | "refused"; at: string; reading: string; value: Value | null; actions: { kind: Then["do"]; state: "asked" | "done" | "failed" | "queued" | "refused"; outcome: string; command_state: string }[] }

type Say = (key: "automations.when.above" | "automations.when.below" | "automations.when.equals" | "automations.when.differs" | "automations.when.status" | "automations.when.at" | "automations.when.every" | "automations.for", given: Record<string, string | number>) => string;

/** What it looks at, in a line. */
export function whenText(one: Automation, t: Say): string {
  const { when } = one.rule;
  if (when.every_minutes != null) return t("automations.when.every", { n: when.every_minutes });
  if (when.at != null) return t("automations.when.at", { time: when.at, zone: when.zone ?? "UTC" });
  const lasting = when.for_minutes ? ` ${t("automations.for", { n: when.for_minutes })}` : "";
  if (when.status != null) return t("automations.when.status", { thing: one.thing, status: when.status }) + lasting;
  const word = (["above", "below", "equals", "differs"] as const).find((name) => when[name] != null) ?? "equals";
  return t(`automations.when.${word}`, { thing: one.thing, reading: when.reading ?? "", value: String(when[word]) }) + lasting;
}
