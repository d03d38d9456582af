import { describe, expect, it } from "vitest";
import { backoffMs } from "../src/phone/protocol/backoff.ts";
import { judgeClose } from "../src/phone/protocol/closecodes.ts";
import { initialLink, stepLink, type LinkInput, type LinkState } from "../src/phone/protocol/connection.ts";

function run(inputs: LinkInput[], from: LinkState = initialLink) {
  let state = from;
  let effects: string[] = [];
  for (const input of inputs) {
    const [next, produced] = stepLink(state, input, 0.5);
    state = next;
    effects = produced.map((effect) => effect.type);
  }
  return { state, effects };
}

const TO_LIVE: LinkInput[] = [
  { type: "start" },
  { type: "token_ready" },
  { type: "hello", nonce: "n" },
  { type: "ready" },
];

describe("backoff", () => {
  it("stays between half a second and a minute, and doubles its ceiling", () => {
    expect(backoffMs(0, 0.99)).toBe(500);
    expect(backoffMs(3, 0.999)).toBeLessThanOrEqual(4000);
    expect(backoffMs(50, 1)).toBe(60_000);
    expect(backoffMs(50, 0)).toBe(500);
  });
  it("gives way to what the server asks for", () => {
    expect(backoffMs(0, 0.5, 7)).toBe(7000);
  });
});

describe("close codes", () => {
  it.each([4000, 4001, 4002, 4004, 1012, 1006, 1001])("%i comes back", (code) => {
    expect(judgeClose(code).kind).toBe("retry");
  });
  it.each([4500, 4501, 4502, 4503, 4504, 4505, 4777])("%i stops", (code) => {
    expect(judgeClose(code).kind).toBe("stop");
  });
  it("4003 refreshes first", () => {
    expect(judgeClose(4003)).toEqual({ kind: "refresh" });
  });
});

describe("the link", () => {
  it("gets a token, opens, answers hello and is live", () => {
    expect(run(TO_LIVE).state.phase).toBe("live");
    expect(run(TO_LIVE.slice(0, 3)).effects).toEqual(["authenticate"]);
  });
  it("waits and comes back after draining", () => {
    const { state, effects } = run([...TO_LIVE, { type: "closed", code: 4000 }]);
    expect(state).toMatchObject({ phase: "waiting", cause: "draining", attempt: 1 });
    expect(effects).toEqual(["close", "wait"]);
    expect(run([{ type: "timer" }], state).state.phase).toBe("refreshing");
  });
  it("refreshes at once after 4003, but backs off if it repeats", () => {
    const first = run([...TO_LIVE, { type: "closed", code: 4003 }]);
    expect(first.state.phase).toBe("refreshing");
    expect(first.effects).toEqual(["close", "refresh"]);
    const again = run([{ type: "token_ready" }, { type: "hello", nonce: "n" }, { type: "closed", code: 4003 }], first.state);
    expect(again.state.phase).toBe("waiting");
  });
  it("asks for health after two 1006 in a row and then keeps to HTTP", () => {
    const once = run([{ type: "start" }, { type: "token_ready" }, { type: "closed", code: 1006 }]);
    expect(once.state.phase).toBe("waiting");
    const twice = run([{ type: "timer" }, { type: "token_ready" }, { type: "closed", code: 1006 }], once.state);
    expect(twice.effects).toContain("ask_health");
    const http = run([{ type: "health", ok: true }, { type: "token_ready" }], twice.state);
    expect(http.effects).toEqual(["open_http"]);
    expect(run([{ type: "http_open" }], http.state).state.phase).toBe("streaming_http");
    expect(run([{ type: "health", ok: false }], twice.state).state).toMatchObject({ phase: "waiting", cause: "unreachable" });
  });
  it("tries a socket again when woken from HTTP", () => {
    const http: LinkState = { ...initialLink, phase: "streaming_http", overHttp: true };
    expect(run([{ type: "wake" }, { type: "token_ready" }], http).effects).toEqual(["open_socket"]);
  });
  it("stops for good when revoked, whatever wakes it", () => {
    const { state, effects } = run([...TO_LIVE, { type: "closed", code: 4501 }]);
    expect(state).toMatchObject({ phase: "stopped", stop: "revoked" });
    expect(effects).toEqual(["close", "stopped"]);
    expect(run([{ type: "wake" }, { type: "timer" }, { type: "closed", code: 1006 }], state).state.phase).toBe("stopped");
  });
  it("tries a suspended device again after 15 minutes and when asked", () => {
    const { state, effects } = run([...TO_LIVE, { type: "closed", code: 4502 }]);
    expect(effects).toEqual(["close", "stopped", "wait"]);
    expect(run([{ type: "timer" }], state).state.phase).toBe("refreshing");
    expect(run([{ type: "retry" }], state).state.phase).toBe("refreshing");
  });
  it("probes instead of trusting an open socket after sleep", () => {
    expect(run([...TO_LIVE, { type: "wake" }]).effects).toEqual(["probe"]);
  });
  it("connects at once when woken while waiting", () => {
    const waiting = run([...TO_LIVE, { type: "closed", code: 4004 }]).state;
    expect(run([{ type: "wake" }], waiting).state).toMatchObject({ phase: "refreshing", attempt: 0 });
  });
  it("answers reauth without leaving live", () => {
    const { state, effects } = run([...TO_LIVE, { type: "reauth", nonce: "m" }]);
    expect(state.phase).toBe("live");
    expect(effects).toEqual(["authenticate"]);
  });
  it("ignores a late close of a socket it gave up", () => {
    const waiting = run([...TO_LIVE, { type: "closed", code: 4001 }]).state;
    expect(run([{ type: "closed", code: 1006 }], waiting).state).toEqual(waiting);
  });
});
