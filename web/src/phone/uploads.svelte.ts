/** Files that are picked for the next message: each goes up at once, and is shown until the message takes it. */
import { makeUlid } from "../shared/ulid.ts";
import { app } from "./app.svelte.ts";
import { Problem } from "./device/http.ts";
import { upload } from "./live/upload.ts";
import type { AttachedRow } from "./protocol/frames.ts";

export const MAX_FILES = 10;

export interface Limits {
  max_bytes: number;
  types: string[];
}

export class Picked {
  readonly key = makeUlid(Date.now());
  sent = $state(0);
  /** a code, once it was refused or given up */
  error = $state<string | null>(null);
  row = $state.raw<AttachedRow | null>(null);
  readonly preview: string | null;
  private control = new AbortController();

  constructor(
    readonly file: File,
    readonly size = file.size,
  ) {
    this.preview = /^image\/(png|jpeg|gif|webp)$/.test(file.type) ? URL.createObjectURL(file) : null;
  }

  async send(): Promise<void> {
    this.control = new AbortController();
    this.error = null;
    this.sent = 0;
    try {
      this.row = await upload(this.file, this.file.name, {
        request: (call) => app.request(call),
        signal: this.control.signal,
        onsent: (bytes) => (this.sent = bytes),
      });
    } catch (error) {
      if (this.control.signal.aborted) return;
      this.error = error instanceof Problem ? error.code : "internal";
    }
  }

  end(): void {
    this.control.abort();
    if (this.preview !== null) URL.revokeObjectURL(this.preview);
  }
}

export class Uploads {
  items = $state.raw<Picked[]>([]);
  /** more were picked than one message takes */
  tooMany = $state(false);

  get busy(): boolean {
    return this.items.some((item) => item.row === null && item.error === null);
  }

  get ready(): AttachedRow[] {
    return this.items.flatMap((item) => (item.row === null ? [] : [item.row]));
  }

  add(files: Iterable<File>): void {
    for (const file of files) {
      this.tooMany = this.items.length >= MAX_FILES;
      if (this.tooMany) return;
      const item = new Picked(file);
      this.items = [...this.items, item];
      void this.begin(item);
    }
  }

  /** One that is on the gateway already. */
  adopt(row: AttachedRow): void {
    const item = new Picked(new File([], row.name), row.size);
    item.row = row;
    this.items = [...this.items, item];
  }

  async begin(item: Picked): Promise<void> {
    const { max_bytes } = await limits().catch(() => ({ max_bytes: Infinity }));
    if (item.size === 0) item.error = "empty";
    else if (item.size > max_bytes) item.error = "too_large";
    else await item.send();
  }

  /** Taken back by the person; what is on the gateway already goes there, too. */
  remove(item: Picked): void {
    item.end();
    if (item.row !== null) void app.call("DELETE", `/api/v1/files/${item.row.file_id}`).catch(() => undefined);
    this.items = this.items.filter((one) => one !== item);
    this.tooMany = false;
  }

  /** The message has them now. Those that failed go: they were told. */
  take(): AttachedRow[] {
    const rows = this.ready;
    for (const item of this.items) item.end();
    this.items = [];
    this.tooMany = false;
    return rows;
  }

  leave(): void {
    for (const item of this.items) this.remove(item);
  }
}

let known: Promise<Limits> | null = null;

/** What the gateway takes, asked once. */
export function limits(): Promise<Limits> {
  known ??= app
    .call("GET", "/api/v1/files?limit=1")
    .then((response) => response.json() as Promise<Limits>)
    .catch((error: unknown) => {
      known = null;
      throw error;
    });
  return known;
}
