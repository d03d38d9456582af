/** A tap on a push: the page that it names, and the gateway hears that it was opened. */
import { app } from "./app.svelte.ts";
import { parsePath, router } from "./router.svelte.ts";

/** The window was opened by a tap: its address says by which. */
export function takeOpened(): void {
  const id = new URLSearchParams(location.search).get("notification");
  if (id === null) return;
  history.replaceState(null, "", location.pathname);
  app.opened = id;
}

/** The tap came to a window that was open; or the browser has renewed its subscription, which the gateway must hear. */
export function followPushes(): void {
  navigator.serviceWorker?.addEventListener("message", ({ data }: MessageEvent) => {
    if (data?.type === "subscribe") void app.renewPush().catch(() => undefined);
    if (data?.type !== "open" || typeof data.path !== "string" || !data.path.startsWith("/") || parsePath(data.path).name === "pair") return;
    router.go(data.path);
    if (typeof data.notification_id === "string" && data.notification_id !== "") app.openedNow(data.notification_id);
  });
}
