/** Who is signed in, and what was asked for that wants a fresh sign-in first. */
import { answered, api, Refused, type Me, type Scope } from "./api.ts";
import { signIn } from "./passkey.ts";
import { router } from "./router.svelte.ts";
import { t } from "./strings.ts";

class Admin {
  me = $state<Me | null>(null);
  ready = $state(false);
  /** told to the person, where it happened */
  problem = $state("");
  /** a link that was opened and not used yet */
  link = $state<string | null>(null);
  /** repeats what was refused, once somebody has signed in again */
  waiting = $state<(() => Promise<unknown>) | null>(null);

  /** The secret of a link leaves the address bar and the history before anything else. */
  takeLink(): void {
    const found = /^#link=(ent_lnk_[\w-]+)$/.exec(location.hash);
    if (found !== null) history.replaceState(null, "", location.pathname);
    this.link = found?.[1] ?? this.link;
  }

  async start(): Promise<void> {
    await this.doing(async () => {
      this.me = await answered(api.GET("/api/v1/me"));
    });
    this.ready = true;
  }

  readonly useLink = this.once(async () => {
    try {
      this.me = await answered(api.POST("/api/v1/sign-in/link", { body: { link: this.link ?? "" } }));
    } finally {
      this.link = null;
      if (this.me !== null) router.go("/admin/welcome", true);
    }
  });

  async usePasskey(): Promise<void> {
    await this.doing(async () => {
      this.me = await signIn();
      const again = this.waiting;
      this.waiting = null;
      await again?.();
    });
  }

  async signOut(): Promise<void> {
    await this.doing(() => answered(api.POST("/api/v1/sign-out")));
    this.me = null;
  }

  /** Runs `work`; a refusal is shown, one that wants a fresh sign-in asks for it and repeats `work` afterwards. */
  async doing(work: () => Promise<unknown>): Promise<void> {
    this.problem = "";
    try {
      await work();
    } catch (error) {
      this.told(error, work);
    }
  }

  /** `work` as something to do that is not begun again while it runs, here or after a fresh sign-in: two clicks would make two. */
  once<A extends unknown[]>(work: (...given: A) => Promise<unknown>): (...given: A) => Promise<void> {
    let busy = false;
    const alone = async (given: A): Promise<void> => {
      if (busy) return;
      busy = true;
      try {
        await work(...given);
      } finally {
        busy = false;
      }
    };
    return (...given) => this.doing(() => alone(given));
  }

  /** `once`, for a form. */
  sending(work: () => Promise<unknown>): (event: SubmitEvent) => void {
    const send = this.once(work);
    return (event) => {
      event.preventDefault();
      void send();
    };
  }

  /** Runs `work` with a sign-in of the last minutes; asks for one first when there is none. */
  async freshly(work: () => Promise<unknown>): Promise<void> {
    await this.doing(async () => {
      const me = await answered(api.GET("/api/v1/me"));
      if (me.fresh_until !== null && Date.parse(me.fresh_until) > Date.now()) await work();
      else this.waiting = work;
    });
  }

  may(scope: Scope): boolean {
    return this.me?.scopes.includes(scope) ?? false;
  }

  /** Something that was only looked at did not come. */
  failed(error: unknown): void {
    this.told(error, () => Promise.resolve());
  }

  private told(error: unknown, work: () => Promise<unknown>): void {
    if (!(error instanceof Refused)) {
      this.problem = error instanceof DOMException ? t("signin.cancelled") : t("app.unreachable");
    } else if (error.problem.code === "step_up_required") {
      this.waiting = work;
    } else if (error.problem.code === "unauthenticated" && (this.me !== null || !this.ready)) {
      this.me = null;
    } else {
      this.problem = error.problem.detail;
    }
  }
}

export const admin = new Admin();
