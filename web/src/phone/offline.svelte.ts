/** The service worker: what its refusal tells about the certificate, and new versions, which wait for the person. */
import { policy } from "../shared/trusted.ts";

export type Trust = "unknown" | "trusted" | "untrusted" | "unsupported";

const LOOK_EVERY_MS = 60 * 60_000;
const ANSWER_MS = 2_000;

class Offline {
  trust = $state<Trust>("unknown");
  /** a newer version is there; the page goes on with its own until the person reloads */
  updated = $state(false);
  private registration: ServiceWorkerRegistration | null = null;
  private lookedMs = 0;
  private reloading = false;

  async start(): Promise<void> {
    if (!("serviceWorker" in navigator)) {
      this.trust = "unsupported";
      return;
    }
    const had = navigator.serviceWorker.controller !== null;
    navigator.serviceWorker.addEventListener("controllerchange", () => {
      if (this.reloading) location.reload();
      // Another tab took the new version.
      else if (had) void this.compare(navigator.serviceWorker.controller, () => undefined);
    });
    await calm();
    try {
      this.follow(await navigator.serviceWorker.register(policy.createScriptURL("/sw.js")));
      this.trust = "trusted";
    } catch {
      // Browsers load no service worker over a certificate they only let pass by a click.
      this.trust = location.protocol === "https:" ? "untrusted" : "unsupported";
    }
  }

  /** Asks whether there is a newer version: a page on a home screen may stay open for weeks. `restarted`: at once. */
  look(now: number, restarted = false): void {
    if (this.registration === null || (!restarted && now - this.lookedMs < LOOK_EVERY_MS)) return;
    this.lookedMs = now;
    void this.registration.update().catch(() => undefined);
  }

  /** By the person's tap and by nothing else: drafts are on the disk by then, but a sentence may be half thought. */
  reload(): void {
    const waiting = this.registration?.waiting;
    if (!waiting) {
      location.reload();
      return;
    }
    this.reloading = true;
    waiting.postMessage({ type: "take-over" });
  }

  private follow(registration: ServiceWorkerRegistration): void {
    this.registration = registration;
    this.lookedMs = Date.now();
    const waits = (worker: ServiceWorker) => {
      // The first worker ever has nothing to wait for and takes over by itself.
      if (registration.active) void this.compare(worker, () => worker.postMessage({ type: "take-over" }));
    };
    if (registration.waiting) waits(registration.waiting);
    registration.addEventListener("updatefound", () => {
      const worker = registration.installing;
      worker?.addEventListener("statechange", () => worker.state === "installed" && waits(worker));
    });
  }

  /** Is this page of the worker's version? The gateway may have given it the new one already; then nobody is asked. */
  private async compare(worker: ServiceWorker | null, same: () => void): Promise<void> {
    if (worker === null) return;
    const own = document.querySelector<HTMLScriptElement>("script[type=module][src]")?.src ?? "/";
    if (await knows(worker, new URL(own, location.origin).pathname)) same();
    else this.updated = true;
  }
}

/** What the first load needs comes first. */
function calm(): Promise<void> {
  return new Promise((resolve) => {
    const idle = () => ("requestIdleCallback" in window ? requestIdleCallback(() => resolve(), { timeout: 2_000 }) : setTimeout(resolve, 200));
    if (document.readyState === "complete") idle();
    else addEventListener("load", idle, { once: true });
  });
}

function knows(worker: ServiceWorker, script: string): Promise<boolean> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    const late = setTimeout(() => resolve(false), ANSWER_MS);
    port1.onmessage = ({ data }: MessageEvent<unknown>) => {
      clearTimeout(late);
      resolve(data === true);
    };
    worker.postMessage({ type: "known", script }, [port2]);
  });
}

export const offline = new Offline();
