/** This browser's subscription to pushes: asked for by a button, renewed at every start, ended by a button. */
import { decodeBase64url } from "../shared/base64url.ts";
import { isIos, isStandalone } from "./device/platform.ts";
import { turns } from "./turns.ts";

export type PushState = "unknown" | "unsupported" | "install" | "untrusted" | "denied" | "off" | "on";
type Send = (name: string, data: Record<string, unknown>) => Promise<unknown>;

const WANTED = "entobot.push";

class Push {
  state = $state<PushState>("unknown");

  /** A renewal that is still on its way must not undo what was asked for after it. */
  private inTurn = turns();

  /** What this browser can do now; subscribes anew where the person wanted pushes and the browser let them end. */
  look(pushKey: string, send: Send): Promise<void> {
    return this.inTurn(async () => {
      this.state = await this.found();
      if (this.state === "off" && this.wanted && Notification.permission === "granted") await this.subscribe(pushKey, send);
      else if (this.state === "on") await this.subscribe(pushKey, send);
    });
  }

  /** Only after a tap: browsers ask the person here. */
  async enable(pushKey: string, send: Send): Promise<void> {
    const permission = await Notification.requestPermission();
    if (permission !== "granted") {
      this.state = permission === "denied" ? "denied" : "off";
      return;
    }
    await this.inTurn(() => this.subscribe(pushKey, send));
  }

  disable(send: Send): Promise<void> {
    return this.inTurn(async () => {
      localStorage.removeItem(WANTED);
      const registration = await navigator.serviceWorker.getRegistration();
      const subscription = await registration?.pushManager.getSubscription();
      await send("push.unsubscribe", {});
      await subscription?.unsubscribe();
      this.state = await this.found();
    });
  }

  private get wanted(): boolean {
    return localStorage.getItem(WANTED) !== null;
  }

  private async subscribe(pushKey: string, send: Send): Promise<void> {
    const registration = await navigator.serviceWorker.ready;
    const key = decodeBase64url(pushKey);
    let subscription = await registration.pushManager.getSubscription();
    const has = subscription?.options.applicationServerKey;
    if (subscription !== null && has && !sameBytes(new Uint8Array(has), key)) {
      await subscription.unsubscribe(); // of a gateway that was here before
      subscription = null;
    }
    subscription ??= await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
    const { endpoint, keys } = subscription.toJSON();
    await send("push.subscribe", { endpoint, keys: { p256dh: keys?.["p256dh"], auth: keys?.["auth"] } });
    localStorage.setItem(WANTED, "1");
    this.state = "on";
  }

  private async found(): Promise<PushState> {
    if (isIos() && !isStandalone()) return "install";
    if (!("serviceWorker" in navigator) || !("PushManager" in window) || !("Notification" in window)) return "unsupported";
    if (Notification.permission === "denied") return "denied";
    const registration = await navigator.serviceWorker.getRegistration();
    if (registration === undefined) return "untrusted";
    return (await registration.pushManager.getSubscription()) === null ? "off" : "on";
  }
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}

export const push = new Push();
