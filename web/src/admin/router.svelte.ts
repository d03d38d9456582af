/** Where the dashboard is: a path below /admin, and what a list is narrowed to in the query. */
const NARROW_AFTER_MS = 300;

class Router {
  path = $state(location.pathname);
  query = $state.raw(new URLSearchParams(location.search));
  private typed: Record<string, string> = {};
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    addEventListener("popstate", () => this.read());
    document.addEventListener("click", (event) => this.follow(event));
  }

  go(address: string, replace = false): void {
    if (replace) history.replaceState(null, "", address);
    else history.pushState(null, "", address);
    this.read();
    if (!replace) scrollTo(0, 0);
  }

  /** Changes the query and stays on the page; an empty value takes its name out. */
  narrow(changes: Record<string, string>): void {
    const query = new URLSearchParams(this.query);
    for (const [name, value] of Object.entries({ ...this.typed, ...changes })) {
      if (value === "") query.delete(name);
      else query.set(name, value);
    }
    const text = query.toString();
    this.go(text === "" ? this.path : `${this.path}?${text}`, true);
  }

  /** `narrow` as soon as nobody types any more, by all that was typed until then; not on another page. */
  narrowSoon(changes: Record<string, string>): void {
    this.typed = { ...this.typed, ...changes };
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.narrow({}), NARROW_AFTER_MS);
  }

  asked(name: string): string {
    return this.query.get(name) ?? "";
  }

  private read(): void {
    clearTimeout(this.timer);
    this.typed = {};
    this.path = location.pathname;
    this.query = new URLSearchParams(location.search);
  }

  /** Plain clicks on links within the dashboard; everything else stays the browser's. */
  private follow(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element | null)?.closest("a");
    if (!link || link.origin !== location.origin || link.target || link.hasAttribute("download") || link.hash !== "") return;
    if (link.pathname !== "/admin" && !link.pathname.startsWith("/admin/")) return;
    event.preventDefault();
    this.go(link.pathname + link.search);
  }
}

export const router = new Router();
