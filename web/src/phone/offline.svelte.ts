/** The service worker, and what its refusal tells about the certificate. */
import { policy } from "../shared/trusted.ts";

export type Trust = "unknown" | "trusted" | "untrusted" | "unsupported";

class Offline {
  trust = $state<Trust>("unknown");
  /** a newer version waits for this page to let go */
  updated = $state(false);

  async start(): Promise<void> {
    if (!("serviceWorker" in navigator)) {
      this.trust = "unsupported";
      return;
    }
    const had = navigator.serviceWorker.controller !== null;
    navigator.serviceWorker.addEventListener("controllerchange", () => {
      if (had) this.updated = true;
    });
    try {
      await navigator.serviceWorker.register(policy.createScriptURL("/sw.js"));
      this.trust = "trusted";
    } catch {
      // Browsers load no service worker over a certificate they only let pass by a click.
      this.trust = location.protocol === "https:" ? "untrusted" : "unsupported";
    }
  }
}

export const offline = new Offline();
