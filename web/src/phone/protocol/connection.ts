/**
 * The life of the link to the gateway as a pure state machine: inputs in, next state and effects out.
 * It knows no socket, clock or randomness; `live/link.ts` carries the effects out.
 */
import { backoffMs } from "./backoff.ts";
import { judgeClose, type StopReason } from "./closecodes.ts";

export type Phase =
  | "off"
  | "refreshing"
  | "opening"
  | "authenticating"
  | "live"
  | "waiting"
  | "checking"
  | "streaming_http"
  | "stopped";

export type WaitCause = "lost" | "draining" | "silence" | "slow" | "limited" | "unreachable" | "offline";

export interface LinkState {
  phase: Phase;
  /** failed tries since the last time the link was live */
  attempt: number;
  /** closes with 1006 in a row */
  abnormal: number;
  cause: WaitCause | null;
  stop: StopReason | null;
  /** the next opening uses Server-Sent Events, because sockets do not get through here */
  overHttp: boolean;
}

export type LinkInput =
  | { type: "start" }
  | { type: "token_ready" }
  | { type: "token_refused"; reason: StopReason }
  | { type: "token_failed"; retryAfterS?: number }
  | { type: "hello"; nonce: string }
  | { type: "ready" }
  | { type: "reauth"; nonce: string }
  | { type: "closed"; code: number; retryAfterS?: number }
  | { type: "health"; ok: boolean }
  | { type: "http_open" }
  | { type: "http_closed"; status: number; retryAfterS?: number }
  | { type: "timer" }
  | { type: "wake" }
  | { type: "offline" }
  | { type: "retry" }
  | { type: "shutdown" };

export type LinkEffect =
  | { type: "refresh"; force: boolean }
  | { type: "open_socket" }
  | { type: "open_http" }
  | { type: "authenticate"; nonce: string }
  | { type: "close" }
  | { type: "ask_health" }
  | { type: "probe" }
  | { type: "wait"; ms: number }
  | { type: "stopped"; reason: StopReason };

export const initialLink: LinkState = {
  phase: "off",
  attempt: 0,
  abnormal: 0,
  cause: null,
  stop: null,
  overHttp: false,
};

const SUSPENDED_RETRY_MS = 15 * 60_000;
/** How long the page keeps to HTTP before it tries a socket again. */
export const HTTP_RETRY_SOCKET_MS = 5 * 60_000;

type Step = [LinkState, LinkEffect[]];

/** One step. `random` is in [0, 1) and used for jitter only. */
export function stepLink(state: LinkState, input: LinkInput, random: number): Step {
  switch (input.type) {
    case "start":
    case "retry":
      return connect({ ...state, attempt: 0, abnormal: 0, overHttp: false }, false);
    case "token_ready":
      if (state.phase !== "refreshing") return [state, []];
      return [{ ...state, phase: "opening" }, [{ type: state.overHttp ? "open_http" : "open_socket" }]];
    case "token_refused":
      return stop(state, input.reason);
    case "token_failed":
      if (state.phase !== "refreshing") return [state, []];
      return wait(state, "unreachable", random, input.retryAfterS);
    case "hello":
      if (state.phase !== "opening") return [state, []];
      return [{ ...state, phase: "authenticating" }, [{ type: "authenticate", nonce: input.nonce }]];
    case "ready":
      return [{ ...state, phase: "live", attempt: 0, abnormal: 0, cause: null, stop: null }, []];
    case "reauth":
      return [state, state.phase === "live" ? [{ type: "authenticate", nonce: input.nonce }] : []];
    case "closed":
      return closed(state, input.code, random, input.retryAfterS);
    case "health":
      if (state.phase !== "checking") return [state, []];
      if (!input.ok) return wait(state, "unreachable", random);
      // The gateway answers, so something between refuses the upgrade: stay useful over plain HTTP.
      return connect({ ...state, overHttp: true }, false);
    case "http_open":
      return [
        { ...state, phase: "streaming_http", attempt: 0, abnormal: 0, cause: null, stop: null },
        [{ type: "wait", ms: HTTP_RETRY_SOCKET_MS }],
      ];
    case "http_closed":
      return httpClosed(state, input.status, random, input.retryAfterS);
    case "timer":
      return timer(state);
    case "wake":
      return wake(state);
    case "offline":
      if (state.phase === "off" || state.phase === "stopped") return [state, []];
      return [{ ...state, phase: "waiting", cause: "offline" }, [{ type: "close" }]];
    case "shutdown":
      return [{ ...initialLink }, [{ type: "close" }]];
  }
}

function connect(state: LinkState, force: boolean): Step {
  return [
    { ...state, phase: "refreshing", stop: null },
    [{ type: "close" }, { type: "refresh", force }],
  ];
}

function wait(state: LinkState, cause: WaitCause, random: number, retryAfterS?: number): Step {
  const ms = backoffMs(state.attempt, random, retryAfterS);
  return [
    { ...state, phase: "waiting", cause, attempt: state.attempt + 1 },
    [{ type: "close" }, { type: "wait", ms }],
  ];
}

function stop(state: LinkState, reason: StopReason): Step {
  const effects: LinkEffect[] = [{ type: "close" }, { type: "stopped", reason }];
  if (reason === "suspended") effects.push({ type: "wait", ms: SUSPENDED_RETRY_MS });
  return [{ ...state, phase: "stopped", stop: reason, cause: null }, effects];
}

function closed(state: LinkState, code: number, random: number, retryAfterS?: number): Step {
  if (state.phase === "off" || state.phase === "stopped" || state.phase === "waiting") return [state, []];
  const verdict = judgeClose(code);
  if (verdict.kind === "stop") return stop(state, verdict.reason);
  const counted = { ...state, abnormal: code === 1006 ? state.abnormal + 1 : 0 };
  if (verdict.kind === "refresh") {
    // At once the first time; a gateway that keeps saying so must not be hammered.
    if (state.attempt > 0) return wait(counted, "lost", random, retryAfterS);
    return connect({ ...counted, attempt: 1 }, true);
  }
  if (counted.abnormal >= 2) return [{ ...counted, phase: "checking" }, [{ type: "close" }, { type: "ask_health" }]];
  return wait(counted, verdict.cause, random, retryAfterS);
}

function httpClosed(state: LinkState, status: number, random: number, retryAfterS?: number): Step {
  if (state.phase !== "streaming_http" && state.phase !== "opening") return [state, []];
  // The stream ends with the token (status 200) or is refused for it (401): both mean refresh.
  if (status === 401) return state.attempt > 0 ? wait(state, "lost", random) : connect({ ...state, attempt: 1 }, true);
  if (status === 200) return connect(state, false);
  return wait(state, status === 503 ? "draining" : "unreachable", random, retryAfterS);
}

function timer(state: LinkState): Step {
  if (state.phase === "waiting") return connect(state, false);
  if (state.phase === "stopped" && state.stop === "suspended") return connect({ ...state, attempt: 0 }, false);
  if (state.phase === "streaming_http") return connect({ ...state, overHttp: false, abnormal: 0 }, false);
  return [state, []];
}

/** The page came to the front or the network came back: never trust what a frozen page believes. */
function wake(state: LinkState): Step {
  if (state.phase === "live") return [state, [{ type: "probe" }]];
  if (state.phase === "waiting") return connect({ ...state, attempt: 0 }, false);
  if (state.phase === "streaming_http") return connect({ ...state, overHttp: false, abnormal: 0 }, false);
  return [state, []];
}
