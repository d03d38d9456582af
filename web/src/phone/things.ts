/** Things as the gateway tells of them. */
export type Value = number | boolean | string;

export interface Reading { name: string; title: string; kind: "boolean" | "number" | "text"; value: Value; unit: string; at: string }

export interface Field { type: "boolean" | "integer" | "number" | "string"; title?: string; enum?: string[]; minimum?: number; maximum?: number }

export interface Offer { name: string; title: string; description: string; risk: "none" | "low" | "medium" | "high"; args: { properties: Record<string, Field>; required?: string[] } | null }

export type Status = "never" | "offline" | "online" | "stale";

export interface Thing { device_id: string; name: string; type_title: string; status: Status; status_at: string; firmware: string; readings: Reading[]; commands: Offer[]; refused: number; refused_why: string; events?: { event: string; at: string }[] }

export type CommandState = "accepted" | "cancelled" | "done" | "expired" | "failed" | "queued";

export interface Told { command_id: string; name: string; state: CommandState; made_at: string; error: string }

export interface Point { at: string; low: number | null; mean: number | null; high: number | null; text: string | null }

export interface Drawn { line: string; band: string; low: number; high: number; last: number }

export const SPANS = { day: 24, week: 7 * 24, month: 30 * 24 } as const;
export type Span = keyof typeof SPANS;

const WIDTH = 600;
const HEIGHT = 160;
const EDGE = 6;

/** The mean as a line within the band of least and greatest; null without numbers. */
export function drawn(points: Point[], from: number, until: number): Drawn | null {
  const numbers = points.filter((one) => one.mean !== null) as { at: string; low: number; mean: number; high: number }[];
  const last = numbers.at(-1);
  if (last === undefined) return null;
  const low = Math.min(...numbers.map((one) => one.low));
  const high = Math.max(...numbers.map((one) => one.high));
  const room = high - low || 1;
  const x = (at: string) => ((Date.parse(at) - from) / (until - from)) * (WIDTH - 2 * EDGE) + EDGE;
  const y = (value: number) => HEIGHT - EDGE - ((value - low) / room) * (HEIGHT - 2 * EDGE);
  const place = (at: string, value: number) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`;
  const upper = numbers.map((one) => place(one.at, one.high));
  const lower = numbers.map((one) => place(one.at, one.low)).reverse();
  return { line: numbers.map((one) => place(one.at, one.mean)).join(" "), band: [...upper, ...lower].join(" "), low, high, last: last.mean };
}
