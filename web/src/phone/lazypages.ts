/** Pages that are not needed at every start. Each is fetched once; the service worker keeps them for later. */
import type { Component } from "svelte";
import { pause } from "./pause.ts";

type Loader = () => Promise<{ default: Component<never> }>;

const loaders = {
  approvals: () => import("./parts/ApprovalList.svelte"),
  approval: () => import("./pages/ApprovalPage.svelte"),
  automations: () => import("./pages/AutomationsPage.svelte"),
  certificate: () => import("./pages/CertificatePage.svelte"),
  chat: () => import("./pages/ChatPage.svelte"),
  device: () => import("./pages/DevicePage.svelte"),
  memos: () => import("./pages/MemosPage.svelte"),
  notifications: () => import("./pages/NotificationsPage.svelte"),
  pair: () => import("./pages/PairPage.svelte"),
  question: () => import("./pages/QuestionPage.svelte"),
  search: () => import("./pages/SearchPage.svelte"),
  things: () => import("./pages/ThingsPage.svelte"),
  share: () => import("./pages/SharePage.svelte"),
  suggestion: () => import("./parts/NextStep.svelte"),
  stop: () => import("./pages/StopPage.svelte"),
} satisfies Record<string, Loader>;

export type PageName = keyof typeof loaders;

const loaded = new Map<PageName, Promise<{ default: Component<Record<string, unknown>> }>>();

async function fetched(name: PageName): Promise<{ default: Component<Record<string, unknown>> }> {
  const module = await (loaders[name] as unknown as () => Promise<{ default: Component<Record<string, unknown>> }>)();
  await pause();
  return module;
}

export function loadPage(name: PageName): Promise<{ default: Component<Record<string, unknown>> }> {
  let page = loaded.get(name);
  if (page === undefined) {
    page = fetched(name);
    // A page that could not be fetched may be asked for again.
    page.catch(() => loaded.delete(name));
    loaded.set(name, page);
  }
  return page;
}
