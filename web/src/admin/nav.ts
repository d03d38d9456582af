/** The pages of the dashboard: where each is, and which permission it needs. */
import type { Component } from "svelte";
import type { IconName } from "../shared/parts/Icon.svelte";
import type { Scope } from "./api.ts";
import type { StringKey } from "./strings.ts";

type Loaded = Promise<{ default: Component<{ id: string }> }>;

export interface Section {
  path: string;
  label: StringKey;
  icon: IconName;
  /** null: whoever is signed in */
  scope: Scope | null;
  page: () => Loaded;
  /** of one thing of the list, at `path/id` */
  detail?: () => Loaded;
  /** pressed after g */
  key?: string;
}

const page = (loading: Promise<unknown>): Loaded => loading as Loaded;

export const SECTIONS: Section[] = [
  { path: "/admin", label: "nav.overview", icon: "home", scope: null, key: "o", page: () => page(import("./pages/Overview.svelte")) },
  { path: "/admin/devices", label: "nav.devices", icon: "device", scope: "devices.read", key: "d", page: () => page(import("./pages/Devices.svelte")), detail: () => page(import("./pages/Device.svelte")) },
  { path: "/admin/invites", label: "nav.invites", icon: "scan", scope: "pair", key: "i", page: () => page(import("./pages/Invites.svelte")) },
  { path: "/admin/approvals", label: "nav.approvals", icon: "approvals", scope: "approve", key: "p", page: () => page(import("./pages/Approvals.svelte")) },
  { path: "/admin/conversations", label: "nav.conversations", icon: "chats", scope: "chat", key: "c", page: () => page(import("./pages/Conversations.svelte")), detail: () => page(import("./pages/Conversation.svelte")) },
  { path: "/admin/people", label: "nav.people", icon: "people", scope: "users.manage", key: "u", page: () => page(import("./pages/People.svelte")) },
  { path: "/admin/tokens", label: "nav.tokens", icon: "key", scope: "devices.manage", key: "t", page: () => page(import("./pages/Tokens.svelte")) },
  { path: "/admin/things", label: "nav.things", icon: "tool", scope: "chat", key: "h", page: () => page(import("./pages/Things.svelte")) },
  { path: "/admin/automations", label: "nav.automations", icon: "refresh", scope: "chat", key: "r", page: () => page(import("./pages/Automations.svelte")), detail: () => page(import("./pages/Automation.svelte")) },
  { path: "/admin/enrolment", label: "nav.enrolment", icon: "plus", scope: "devices.manage", key: "b", page: () => page(import("./pages/Enrolment.svelte")) },
  { path: "/admin/updates", label: "nav.updates", icon: "download", scope: "devices.read", key: "v", page: () => page(import("./pages/Updates.svelte")), detail: () => page(import("./pages/Update.svelte")) },
  { path: "/admin/bridges", label: "nav.bridges", icon: "next", scope: "metrics", key: "x", page: () => page(import("./pages/Bridges.svelte")) },
  { path: "/admin/policies", label: "nav.policies", icon: "lock", scope: "devices.read", key: "f", page: () => page(import("./pages/Policies.svelte")) },
  { path: "/admin/alerts", label: "nav.alerts", icon: "bell", scope: "audit", key: "w", page: () => page(import("./pages/Alerts.svelte")) },
  { path: "/admin/notifications", label: "nav.notifications", icon: "send", scope: null, key: "n", page: () => page(import("./pages/Notifications.svelte")) },
  { path: "/admin/audit", label: "nav.audit", icon: "list", scope: "audit", key: "a", page: () => page(import("./pages/Audit.svelte")) },
  { path: "/admin/metrics", label: "nav.metrics", icon: "chart", scope: "metrics", key: "m", page: () => page(import("./pages/Metrics.svelte")) },
  { path: "/admin/logs", label: "nav.logs", icon: "log", scope: "settings", key: "l", page: () => page(import("./pages/Logs.svelte")) },
  { path: "/admin/agents", label: "nav.agents", icon: "agent", scope: "settings", key: "e", page: () => page(import("./pages/Agents.svelte")) },
  { path: "/admin/settings", label: "nav.settings", icon: "settings", scope: "settings", key: "s", page: () => page(import("./pages/Settings.svelte")) },
  { path: "/admin/welcome", label: "nav.welcome", icon: "check", scope: null, page: () => page(import("./pages/Welcome.svelte")) },
  { path: "/admin/about", label: "nav.about", icon: "info", scope: null, page: () => page(import("./pages/About.svelte")) },
  { path: "/admin/you", label: "nav.you", icon: "person", scope: null, key: "y", page: () => page(import("./You.svelte")) },
];

export interface Place {
  section: Section;
  id: string;
}

/** Which page is at a path; null for none. */
export function placeOf(path: string): Place | null {
  const clean = path.replace(/\/+$/, "");
  const section = SECTIONS.find((one) => one.path === clean);
  if (section !== undefined) return { section, id: "" };
  const cut = clean.lastIndexOf("/");
  const parent = SECTIONS.find((one) => one.detail !== undefined && one.path === clean.slice(0, cut));
  return parent === undefined ? null : { section: parent, id: decodeURIComponent(clean.slice(cut + 1)) };
}
