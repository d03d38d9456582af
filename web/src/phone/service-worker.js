/**
 * Keeps the page itself available without a network, and shows pushes. It never sees data but what a push says: `/api`,
 * `/ws`, `/admin` and everything that is not in the list go straight to the gateway. `__VERSION__` and the list are filled in by `precache.ts`.
 */
const PREFIX = "entobot-";
const CACHE = `${PREFIX}__VERSION__`;
const FILES = "__FILES__";
const MOST_SHARED_BYTES = 64 * 1024 * 1024;
const PAGES = /^\/(chat(\/|$)|approvals(\/|$)|questions(\/|$)|notifications(\/|$)|device$|things(\/|$)|automations(\/|$)|memos$|search$|share$|pair$|certificate$|$)/;

// A new version waits: pages of the old one go on with the files they know until the person reloads.
self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES.map((file) => new Request(file, { cache: "reload" })))));
});

self.addEventListener("activate", (event) => event.waitUntil(forgetOld().then(() => self.clients.claim())));

/** All but this version and the one before it, which another open tab may still be running. */
async function forgetOld() {
  const others = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE);
  await Promise.all(others.slice(0, -1).map((name) => caches.delete(name)));
}

self.addEventListener("message", (event) => {
  const { type, script } = event.data ?? {};
  if (type === "take-over") event.waitUntil(self.skipWaiting());
  // Is the page that asks of this version already? The gateway gave it the new one while this worker was waiting.
  if (type === "known" && event.ports[0] !== undefined) event.ports[0].postMessage(FILES.includes(script));
});

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method === "POST" && url.origin === self.location.origin && url.pathname === "/share") event.respondWith(share(event.request));
  if (event.request.method !== "GET" || url.origin !== self.location.origin) return;
  if (event.request.mode === "navigate") {
    if (PAGES.test(url.pathname)) event.respondWith(page(event.request));
  } else if (FILES.includes(url.pathname)) {
    event.respondWith(kept(url.pathname).then((found) => found ?? fetch(event.request)));
  } else if (url.pathname.startsWith("/assets/")) {
    // Of the version before: its name holds its content, so any copy will do.
    event.respondWith(caches.match(url.pathname).then((found) => found ?? fetch(event.request)));
  }
});

/** What another app shares is put away for the page that asks where it belongs; it goes to no server and into no address. */
async function share(request) {
  const body = await request.blob();
  if (body.size <= MOST_SHARED_BYTES) {
    const form = new Response(body, { headers: { "content-type": request.headers.get("content-type") ?? "" } });
    await (await caches.open("shared")).put("/share", form);
  }
  return Response.redirect("/share", 303);
}

async function kept(path) {
  return (await caches.open(CACHE)).match(path);
}

/** The gateway's page if it answers soon, so that a new version is seen at once; else the kept one. */
async function page(request) {
  const old = await kept("/");
  const slow = new Promise((resolve) => setTimeout(resolve, 1500, old));
  const fresh = fetch(request).then((response) => (response.ok ? response : (old ?? response)), () => old ?? Response.error());
  return old ? Promise.race([fresh, slow]) : fresh;
}

self.addEventListener("push", (event) => event.waitUntil(show(event.data)));

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(open(event.notification.data ?? {}));
});

// The browser has ended the subscription. A new one is made here, and an open page tells the gateway; else the next start does.
self.addEventListener("pushsubscriptionchange", (event) => event.waitUntil(renew(event.oldSubscription, event.newSubscription)));

async function renew(before, after) {
  const key = before?.options?.applicationServerKey;
  if (!after && key) await self.registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key }).catch(() => undefined);
  for (const one of await appWindows()) one.postMessage({ type: "subscribe" });
}

/** Always something: browsers end the subscription of an app that stays silent, and a push that cannot be read is news, too. */
async function show(data) {
  let said = {};
  try {
    said = data?.json() ?? {};
  } catch {
    said = {};
  }
  const { title, body, tag, lang } = said.notification ?? {};
  const { path, notification_id: id, priority } = said.entobot ?? {};
  await self.registration.showNotification(text(title) || "Entobot", {
    body: text(body),
    lang: text(lang) || "en",
    icon: "/icon-192.png",
    data: { path, id },
    ...(text(tag) === "" ? {} : { tag: text(tag), renotify: priority === "high" || priority === "critical" }),
    requireInteraction: priority === "critical",
  });
  if (Number.isInteger(said.app_badge)) await navigator.setAppBadge?.(said.app_badge)?.catch(() => undefined);
}

/** A page of this app and nothing else, in the window that is open where there is one. */
async function open({ path, id }) {
  const known = typeof path === "string" && PAGES.test(path) ? path : "/notifications";
  const [here] = await appWindows();
  if (here === undefined) {
    await self.clients.openWindow(text(id) === "" ? known : `${known}?notification=${encodeURIComponent(id)}`);
    return;
  }
  here.postMessage({ type: "open", path: known, notification_id: text(id) });
  await here.focus().catch(() => undefined);
}

async function appWindows() {
  const windows = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  return windows.filter((one) => !new URL(one.url).pathname.startsWith("/admin"));
}

function text(value) {
  return typeof value === "string" ? value : "";
}
