import { mount } from "svelte";
import "../shared/base.css";
import "./admin.css";
import { theme } from "../shared/theme.svelte.ts";
import App from "./App.svelte";
import { admin } from "./admin.svelte.ts";

admin.takeLink();
// Pasted into the address bar of this very page.
addEventListener("hashchange", () => admin.takeLink());
theme.apply();
const target = document.getElementById("app")!;
target.replaceChildren();
mount(App, { target });
void admin.start();
