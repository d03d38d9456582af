/** How far roll-outs are, for those who look at them. */
import type { Rollout } from "./api.ts";

export const ROLLOUT_TONE: Record<Rollout["state"], string> = { aborted: "bad", done: "good", paused: "warn", running: "" };
export const BOARD_TONE: Record<string, string> = { failed: "bad", healthy: "good", rolled_back: "bad" };

export interface Tally {
  total: number;
  healthy: number;
  bad: number;
}

/** Of the boards of these stages. */
export function tally(stages: readonly Pick<Rollout["stages"][number], "total" | "states">[]): Tally {
  const count: Tally = { total: 0, healthy: 0, bad: 0 };
  for (const { total, states } of stages) {
    count.total += total;
    count.healthy += states.healthy ?? 0;
    count.bad += (states.failed ?? 0) + (states.rolled_back ?? 0);
  }
  return count;
}
