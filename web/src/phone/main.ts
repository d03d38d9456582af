import { mount } from "svelte";
import "../shared/base.css";
import { theme } from "../shared/theme.svelte.ts";
import App from "./App.svelte";
import { app } from "./app.svelte.ts";
import { start as startLanguage } from "./language.ts";
import { install } from "./install.svelte.ts";
import { takeFragment } from "./invitelink.svelte.ts";
import { loadPage } from "./lazypages.ts";
import { offline } from "./offline.svelte.ts";
import { pause } from "./pause.ts";
import { followPushes, takeOpened } from "./pushed.ts";

// Before anything else: the secret of a pairing link leaves the address bar and the history.
takeFragment();
takeOpened();
followPushes();
install.watch();
// Fetched while the database is still opening.
const isFirstVisit = location.pathname === "/" && navigator.serviceWorker?.controller === null;
const first = location.pathname.startsWith("/chat/") ? "chat" : isFirstVisit || location.pathname === "/pair" ? "pair" : null;
if (first !== null) void loadPage(first).catch(() => undefined);
theme.apply();
void app.start();
void offline.start();
void startLanguage().then(pause).then(() => {
  const target = document.getElementById("app")!;
  target.replaceChildren();
  mount(App, { target });
});
