/** How many alerts nobody has taken up: told in the navigation, and known to the page of alerts. */
import { admin } from "./admin.svelte.ts";
import { answered, api } from "./api.ts";

class Alarms {
  firing = $state(0);

  /** What cannot be asked for now stays as it was: pages tell what is wrong. */
  async look(): Promise<void> {
    if (!admin.may("audit")) return;
    try {
      this.firing = (await answered(api.GET("/api/v1/alerts", { params: { query: { state: "firing", limit: 1 } } }))).firing;
    } catch {
      return;
    }
  }
}

export const alarms = new Alarms();
