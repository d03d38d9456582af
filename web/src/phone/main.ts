import { mount } from "svelte";
import "../shared/base.css";
import { theme } from "../shared/theme.svelte.ts";
import App from "./App.svelte";
import { app } from "./app.svelte.ts";
import { takeFragment } from "./invitelink.svelte.ts";
import { loadPage } from "./lazypages.ts";
import { offline } from "./offline.svelte.ts";
import { followPushes, takeOpened } from "./pushed.ts";

// Before anything else: the secret of a pairing link leaves the address bar and the history.
takeFragment();
takeOpened();
followPushes();
// Fetched while the database is still opening.
if (location.pathname.startsWith("/chat/")) void loadPage("chat").catch(() => undefined);
theme.apply();
const target = document.getElementById("app")!;
target.replaceChildren();
mount(App, { target });
void app.start();
void offline.start();
