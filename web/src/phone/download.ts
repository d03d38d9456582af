/** Files of messages, fetched with this device's credentials: pictures to be shown, anything to be saved. */
import { app } from "./app.svelte.ts";
import type { AttachedRow } from "./protocol/frames.ts";

const SHOWN = new Set(["image/gif", "image/jpeg", "image/png", "image/webp"]);
export const MAX_SHOWN_BYTES = 8 * 1024 * 1024;
const KEPT = 20;

const shown = new Map<string, Promise<string>>();

export function isPicture(file: AttachedRow): boolean {
  return SHOWN.has(file.media_type) && file.size <= MAX_SHOWN_BYTES;
}

async function fetchFile(file: AttachedRow): Promise<Blob> {
  const response = await app.call("GET", `/api/v1/files/${file.file_id}/content`);
  // The gateway names a kind for pictures and sound only; whatever else it says is bytes.
  return response.blob();
}

/** An address for an `img`. The newest few are kept. */
export function pictureOf(file: AttachedRow): Promise<string> {
  let url = shown.get(file.file_id);
  if (url === undefined) {
    url = fetchFile(file).then((blob) => URL.createObjectURL(blob));
    url.catch(() => shown.delete(file.file_id));
    shown.set(file.file_id, url);
    for (const [id, old] of shown) {
      if (shown.size <= KEPT) break;
      shown.delete(id);
      void old.then((one) => URL.revokeObjectURL(one));
    }
  }
  return url;
}

export async function saveFile(file: AttachedRow): Promise<void> {
  const url = URL.createObjectURL(await fetchFile(file));
  const link = document.createElement("a");
  link.href = url;
  link.download = file.name;
  link.click();
  // Some browsers read it only after the click was handled.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
