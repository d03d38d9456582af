/** When to tell the gateway what has been seen. Cumulative, so few and late is right; but never so late that it pauses. */
export interface AckState {
  acked: number;
  unacked: number;
}

export const noAcks: AckState = { acked: 0, unacked: 0 };

/** The gateway pauses at 256 unacknowledged events; half of that leaves a round trip. */
const HURRY = 128;

export type AckPlan = "now" | "soon" | "hold";

/** A hidden page has shown nothing to anybody: it holds back, so that the gateway may push instead. */
export function planAck(state: AckState, visible: boolean): AckPlan {
  if (state.unacked === 0) return "hold";
  if (state.unacked >= HURRY) return "now";
  return visible ? "soon" : "hold";
}
