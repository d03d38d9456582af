/**
 * Keeps the page itself available without a network, and shows pushes. It never sees data but what a push says: `/api`,
 * `/ws`, `/admin` and everything that is not in the list go straight to the gateway. `__VERSION__` and the list are filled in by `precache.ts`.
 */
const CACHE = "entobot-__VERSION__";
const FILES = "__FILES__";
const PAGES = /^\/(chat\/|approvals(\/|$)|questions(\/|$)|notifications(\/|$)|device$|pair$|certificate$|$)/;

self.addEventListener("install", (event) => {
  event.waitUntil(
    caches
      .open(CACHE)
      .then((cache) => cache.addAll(FILES.map((file) => new Request(file, { cache: "reload" }))))
      .then(() => self.skipWaiting()),
  );
});

self.addEventListener("activate", (event) => {
  const drop = (names) => Promise.all(names.filter((name) => name !== CACHE).map((name) => caches.delete(name)));
  event.waitUntil(caches.keys().then(drop).then(() => self.clients.claim()));
});

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== self.location.origin) return;
  if (event.request.mode === "navigate") {
    if (PAGES.test(url.pathname)) event.respondWith(page(event.request));
  } else if (FILES.includes(url.pathname)) {
    event.respondWith(caches.match(url.pathname).then((kept) => kept ?? fetch(event.request)));
  }
});

/** The gateway's page if it answers soon, so that a new version is seen at once; else the kept one. */
async function page(request) {
  const kept = await caches.match("/");
  const slow = new Promise((resolve) => setTimeout(resolve, 1500, kept));
  const fresh = fetch(request).then((response) => (response.ok ? response : (kept ?? response)), () => kept ?? Response.error());
  return kept ? Promise.race([fresh, slow]) : fresh;
}

self.addEventListener("push", (event) => event.waitUntil(show(event.data)));

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(open(event.notification.data ?? {}));
});

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
  const windows = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const here = windows.find((one) => !new URL(one.url).pathname.startsWith("/admin"));
  if (here === undefined) {
    await self.clients.openWindow(text(id) === "" ? known : `${known}?notification=${encodeURIComponent(id)}`);
    return;
  }
  here.postMessage({ type: "open", path: known, notification_id: text(id) });
  await here.focus().catch(() => undefined);
}

function text(value) {
  return typeof value === "string" ? value : "";
}
