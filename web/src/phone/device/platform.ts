/** What this browser is, for the operator's eyes only: never trusted, never used to tell devices apart. */
export interface Platform {
  platform: "ios" | "android" | "web" | "desktop";
  app_version: string;
  os_version: string;
}

export const APP_VERSION = "0.1.0";

export function isIos(): boolean {
  return /iPhone|iPad|iPod/.test(navigator.userAgent) || (navigator.platform === "MacIntel" && navigator.maxTouchPoints > 1);
}

export function isAndroid(): boolean {
  return /Android/.test(navigator.userAgent);
}

/** Started from the home screen rather than in a browser tab. */
export function isStandalone(): boolean {
  return matchMedia("(display-mode: standalone)").matches || (navigator as { standalone?: boolean }).standalone === true;
}

export function describePlatform(): Platform {
  const platform = isIos() ? "ios" : isAndroid() ? "android" : "web";
  const os = /(iPhone OS|Android|Windows NT|Mac OS X|CrOS|Linux)[ _]?([\d._]+)?/.exec(navigator.userAgent);
  const version = os === null ? "" : `${os[1]} ${(os[2] ?? "").replaceAll("_", ".")}`.trim();
  return { platform, app_version: APP_VERSION, os_version: version || "unknown" };
}

/** A name a person would recognise in a list. */
export function suggestName(): string {
  const agent = navigator.userAgent;
  const browser = /Edg/.test(agent) ? "Edge" : /Firefox|FxiOS/.test(agent) ? "Firefox"
    : /Chrome|CriOS/.test(agent) ? "Chrome" : /Safari/.test(agent) ? "Safari" : "Browser";
  const kind = /iPad/.test(agent) ? "iPad" : isIos() ? "iPhone" : isAndroid() ? "Android"
    : /Mac/.test(agent) ? "Mac" : /Windows/.test(agent) ? "Windows" : /CrOS/.test(agent) ? "Chromebook" : "Linux";
  return `${kind} · ${browser}`;
}
