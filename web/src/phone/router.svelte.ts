/** Paths, not hashes: the fragment belongs to pairing links alone. */
export type Route =
  | { name: "chats" }
  | { name: "chat"; id: string }
  | { name: "approvals" }
  | { name: "approval"; id: string }
  | { name: "question"; id: string }
  | { name: "notifications"; id: string }
  | { name: "device" }
  | { name: "memos" }
  | { name: "automations" | "things"; id: string }
  | { name: "search" }
  | { name: "share" }
  | { name: "pair" }
  | { name: "certificate" };

export function parsePath(path: string): Route {
  const [first = "", second = ""] = path.split("/").filter(Boolean);
  if (first === "chat" && second !== "") return { name: "chat", id: decodeURIComponent(second) };
  if (first === "approvals") return second === "" ? { name: "approvals" } : { name: "approval", id: decodeURIComponent(second) };
  if (first === "questions") return second === "" ? { name: "approvals" } : { name: "question", id: decodeURIComponent(second) };
  if (first === "automations" || first === "things") return { name: first, id: decodeURIComponent(second) };
  if (first === "notifications") return { name: "notifications", id: decodeURIComponent(second) };
  if (first === "device" || first === "memos" || first === "search" || first === "share" || first === "pair" || first === "certificate") return { name: first };
  return { name: "chats" };
}

class Router {
  route = $state.raw<Route>(parsePath(location.pathname));
  /** how many pages of this app lie behind the present one */
  depth = 0;
  /** changes when another page is shown; a page that only gets its real address keeps its state */
  key = $state(0);

  constructor() {
    addEventListener("popstate", () => {
      this.depth = Math.max(0, this.depth - 1);
      this.key += 1;
      this.route = parsePath(location.pathname);
    });
    document.addEventListener("click", (event) => this.follow(event));
  }

  go(path: string, replace = false): void {
    if (replace) history.replaceState(null, "", path);
    else {
      history.pushState(null, "", path);
      this.depth += 1;
      this.key += 1;
    }
    this.route = parsePath(path);
    scrollTo(0, 0);
  }

  /** Back inside the app, or up to `parent` when the app was opened right here. */
  back(parent: string): void {
    if (this.depth > 0) history.back();
    else this.go(parent, true);
  }

  /** Plain clicks on links within the app; everything else stays the browser's. */
  private follow(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element | null)?.closest("a");
    if (!link || link.origin !== location.origin || link.target || link.hasAttribute("download") || link.dataset["outside"] === "") return;
    event.preventDefault();
    this.go(link.pathname);
  }
}

export const router = new Router();
