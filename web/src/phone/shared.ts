/** What another app shared with this one. The service worker put the form away as it came; it never was in an address. */
import { load, remove, save } from "./device/database.ts";

/** Also named in `service-worker.js`. */
const CACHE = "shared";
const PLACE = "/share";

export interface Shared {
  text: string;
  files: File[];
}

export async function look(): Promise<Shared | null> {
  const kept = await (await caches.open(CACHE)).match(PLACE);
  if (kept === undefined) return null;
  try {
    const form = await kept.formData();
    const said = ["title", "text", "url"].map((name) => form.get(name)).filter((value) => typeof value === "string").map((value) => value.trim());
    // Apps repeat themselves: the link often stands in the text as well.
    const lines = said.filter((line, at) => line !== "" && !said.some((other, place) => place !== at && other.includes(line) && (other !== line || place < at)));
    return { text: lines.join("\n"), files: form.getAll("files").filter((value) => value instanceof File) };
  } catch {
    await drop();
    return null;
  }
}

export async function drop(): Promise<void> {
  await caches.delete(CACHE);
}

/** Into the draft of a conversation (`new` for one that is to begin), behind what stands there. Nothing is sent. */
export async function intoDraft(conversation: string, shared: Shared): Promise<void> {
  const before = (await load<string>("drafts", conversation)) ?? "";
  const text = [before.trimEnd(), shared.text].filter((part) => part !== "").join("\n");
  if (text !== "") await save("drafts", conversation, text);
  if (shared.files.length > 0) await save("drafts", `files:${conversation}`, shared.files);
  await drop();
}

/** Files that were shared into this draft, once. */
export async function filesOf(conversation: string): Promise<File[]> {
  const files = (await load<File[]>("drafts", `files:${conversation}`)) ?? [];
  if (files.length > 0) await remove("drafts", `files:${conversation}`);
  return files;
}
