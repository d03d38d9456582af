/** For pages of which the gateway sends no events: they look again while somebody looks at them. */
import { untrack } from "svelte";
import { app } from "./app.svelte.ts";

const EVERY_MS = 5000;

/** For a component as it begins: `look` runs when the gateway is reached, every five seconds and when the page is shown. */
export function keepLooking(look: () => Promise<unknown>): void {
  let underWay = false;
  async function again(): Promise<void> {
    if (underWay || document.hidden) return;
    underWay = true;
    await look().catch(() => undefined);
    underWay = false;
  }
  const now = () => void again();

  $effect(() => {
    if (!app.online) return;
    untrack(now);
    const timer = setInterval(now, EVERY_MS);
    document.addEventListener("visibilitychange", now);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", now);
    };
  });
}
