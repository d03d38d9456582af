/** The pairing link this page was opened with, if any. Its secret lives here, in memory, until it is claimed. */
import { parseFragment, type InviteLink, type LinkProblem } from "./protocol/invite.ts";

class Opened {
  link = $state.raw<InviteLink | null>(null);
  problem = $state<LinkProblem | null>(null);

  take(found: InviteLink | LinkProblem): void {
    this.link = typeof found === "string" ? null : found;
    this.problem = typeof found === "string" ? found : null;
  }

  /** What a browser on the same phone was opened with; a link of this page's own goes before it. */
  along(fragment: string | null): void {
    if (fragment === null || this.link !== null) return;
    const found = parseFragment(fragment, location.origin);
    if (typeof found !== "string") this.take(found);
  }

  clear(): void {
    this.link = null;
    this.problem = null;
  }
}

export const opened = new Opened();

export function takeFragment(): void {
  if (location.pathname !== "/pair" || location.hash.length < 2) return;
  const fragment = location.hash;
  history.replaceState(null, "", "/pair");
  opened.take(parseFragment(fragment, location.origin));
}

// The same tab may be sent to a second link: only the fragment changes then, and nothing reloads.
addEventListener("hashchange", takeFragment);
