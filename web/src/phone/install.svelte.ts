/** Putting the app on the home screen, and carrying an invitation over to it. */
import { isIos, isStandalone } from "./device/platform.ts";
import { opened } from "./invitelink.svelte.ts";

interface InstallPrompt extends Event {
  prompt(): Promise<unknown>;
  userChoice: Promise<{ outcome: "accepted" | "dismissed" }>;
}

/**
 * An app on an iPhone's home screen starts with nothing of Safari's but copies of its cookies (iOS 17.2 and newer), so
 * an invitation that was opened in Safari goes along in one. It is good once, for minutes, and only until it is claimed.
 */
const COOKIE = "__Host-entobot-invite";
const LIFE_S = 15 * 60;
const WHERE = "Path=/; Secure; SameSite=Strict";

export type InstallWay = "installed" | "prompt" | "ios" | "none";

class Install {
  private waiting = $state.raw<InstallPrompt | null>(null);
  private done = $state(isStandalone());

  get way(): InstallWay {
    if (this.done) return "installed";
    if (this.waiting !== null) return "prompt";
    return isIos() ? "ios" : "none";
  }

  /** Browsers that can install say so once, early, and are asked by a button later. */
  watch(): void {
    addEventListener("beforeinstallprompt", (event) => {
      event.preventDefault();
      this.waiting = event as InstallPrompt;
    });
    addEventListener("appinstalled", () => {
      this.waiting = null;
      this.done = true;
    });
  }

  async ask(): Promise<void> {
    const prompt = this.waiting;
    this.waiting = null; // good for one time
    await prompt?.prompt();
    await prompt?.userChoice;
  }

  /** Before the home screen gets its copy of the cookies. */
  leaveInvite(now: number): void {
    const { link } = opened;
    if (link === null || isStandalone()) return;
    const life = link.expires_at === null ? LIFE_S : Math.min(LIFE_S, link.expires_at - Math.floor(now / 1000));
    if (life <= 0) return;
    const fields = new URLSearchParams({ v: "1", i: link.invite_id, s: link.secret, ...(link.expires_at === null ? {} : { x: String(link.expires_at) }) });
    document.cookie = `${COOKIE}=${encodeURIComponent(fields.toString())}; Max-Age=${life}; ${WHERE}`;
  }

  /** The fragment of an invitation that came along, once. */
  takeInvite(): string | null {
    const found = document.cookie.split("; ").find((one) => one.startsWith(`${COOKIE}=`));
    if (found === undefined) return null;
    this.dropInvite();
    return decodeURIComponent(found.slice(COOKIE.length + 1));
  }

  dropInvite(): void {
    document.cookie = `${COOKIE}=; Max-Age=0; ${WHERE}`;
  }
}

export const install = new Install();
