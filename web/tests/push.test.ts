import { beforeEach, expect, it, vi } from "vitest";

const stored = new Map<string, string>();
const subscription = {
  options: {},
  toJSON: () => ({ endpoint: "https://push.example/1", keys: { p256dh: "p", auth: "a" } }),
  unsubscribe: () => Promise.resolve((subscribed = false)),
};
let subscribed = true;
const registration = { pushManager: { getSubscription: () => Promise.resolve(subscribed ? subscription : null) } };

beforeEach(() => {
  subscribed = true;
  const storage = { getItem: (key: string) => stored.get(key) ?? null, setItem: (key: string, value: string) => stored.set(key, value), removeItem: (key: string) => stored.delete(key) };
  vi.stubGlobal("localStorage", storage);
  vi.stubGlobal("navigator", { userAgent: "", serviceWorker: { ready: Promise.resolve(registration), getRegistration: () => Promise.resolve(registration) } });
  vi.stubGlobal("window", { PushManager: {}, Notification: {} });
  vi.stubGlobal("Notification", { permission: "granted" });
  return () => vi.unstubAllGlobals();
});

it("a renewal that is on its way does not undo that pushes were turned off", async () => {
  const { push } = await import("../src/phone/push.svelte.ts");
  const sent: string[] = [];
  let release: () => void = () => undefined;
  const send = (name: string) => {
    sent.push(name);
    return name === "push.subscribe" ? new Promise<void>((resolve) => (release = resolve)) : Promise.resolve();
  };
  const looking = push.look("AA", send);
  await vi.waitFor(() => expect(sent).toEqual(["push.subscribe"]));
  const ending = push.disable(send);
  await new Promise((resolve) => setTimeout(resolve));
  release();
  await Promise.all([looking, ending]);
  expect(sent).toEqual(["push.subscribe", "push.unsubscribe"]);
  expect([push.state, stored.size, subscribed]).toEqual(["off", 0, false]);
});
