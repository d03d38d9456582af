/** What a page shows of the gateway: loaded again when what it depends on changes, and every so often while looked at. */
import { admin } from "./admin.svelte.ts";
import { mayComeLater } from "./api.ts";

const AGAIN_AFTER_MS = 3_000;

export class Resource<T> {
  value = $state.raw<T | undefined>();
  busy = $state(false);
  private turn = 0;
  /** since `ask` or what it depends on is what it is */
  private isAnswered = false;

  /**
   * Call it while a component is made. `ask` is run again when state that it reads before its first await changes; and
   * until it has been answered once, since nothing is shown before.
   */
  constructor(private readonly ask: () => Promise<T>, everyMs = 0) {
    $effect(() => {
      this.isAnswered = false;
      void this.follow(this.ask());
    });
    $effect(() => {
      if (everyMs === 0) return;
      const timer = setInterval(() => !document.hidden && !this.busy && void this.load(), everyMs);
      return () => clearInterval(timer);
    });
    $effect(() => () => (this.turn += 1));
  }

  load(): Promise<void> {
    return this.follow(this.ask());
  }

  /** An answer that was overtaken by a later question is dropped. */
  private async follow(asked: Promise<T>): Promise<void> {
    const turn = ++this.turn;
    this.busy = true;
    try {
      const value = await asked;
      if (turn !== this.turn) return;
      this.value = value;
      this.isAnswered = true;
    } catch (error) {
      if (turn !== this.turn) return;
      admin.failed(error);
      if (!this.isAnswered && mayComeLater(error)) setTimeout(() => turn === this.turn && void this.load(), AGAIN_AFTER_MS);
    } finally {
      if (turn === this.turn) this.busy = false;
    }
  }
}

interface Page<R> {
  rows: R[];
  next: string | null;
  total?: number | null;
}

/** A list that comes in pages, each behind the cursor of the one before. */
export class Pages<R> {
  rows = $state.raw<R[]>([]);
  next = $state<string | null>(null);
  total = $state<number | null>(null);
  loaded = $state(false);
  busy = $state(false);
  private turn = 0;
  private isFurther = false;
  private isAnswered = false;

  /** As `Resource`; every `everyMs` the first page is looked at again while nobody has gone further. */
  constructor(private readonly ask: (cursor: string | undefined) => Promise<Page<R>>, everyMs = 0) {
    $effect(() => {
      this.isAnswered = false;
      void this.follow(this.ask(undefined), []);
    });
    $effect(() => {
      if (everyMs === 0) return;
      const timer = setInterval(() => !document.hidden && !this.busy && !this.isFurther && void this.load(), everyMs);
      return () => clearInterval(timer);
    });
    $effect(() => () => (this.turn += 1));
  }

  load(): Promise<void> {
    return this.follow(this.ask(undefined), []);
  }

  more(): Promise<void> {
    this.isFurther = true;
    return this.follow(this.ask(this.next ?? undefined), this.rows);
  }

  private async follow(asked: Promise<Page<R>>, before: R[]): Promise<void> {
    const turn = ++this.turn;
    this.busy = true;
    if (before.length === 0) this.isFurther = false;
    try {
      const page = await asked;
      if (turn !== this.turn) return;
      this.rows = [...before, ...page.rows];
      this.next = page.next;
      this.loaded = true;
      if (before.length > 0) return;
      this.total = page.total ?? null;
      this.isAnswered = true;
    } catch (error) {
      if (turn !== this.turn) return;
      admin.failed(error);
      if (!this.isAnswered && mayComeLater(error)) setTimeout(() => turn === this.turn && void this.load(), AGAIN_AFTER_MS);
    } finally {
      if (turn === this.turn) this.busy = false;
    }
  }
}
