/**
 * Keeps the page itself available without a network. It never sees data: `/api`, `/ws`, `/admin` and everything that is
 * not in the list go straight to the gateway. `__VERSION__` and the list are filled in by `precache.ts`.
 */
const CACHE = "entobot-__VERSION__";
const FILES = "__FILES__";
const PAGES = /^\/(chat\/|approvals(\/|$)|device$|pair$|certificate$|$)/;

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
