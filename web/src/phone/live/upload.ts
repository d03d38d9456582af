/** One file on its way to the gateway, part by part. A part that was lost on the way is sent again. */
import { Problem, type Call } from "../device/http.ts";
import { backoffMs } from "../protocol/backoff.ts";
import type { AttachedRow } from "../protocol/frames.ts";

const AT = "/api/v1/files";
const TRIES = 6;

type Request = (call: Omit<Call, "accessToken">) => Promise<Response>;

interface FileRow extends AttachedRow {
  part_bytes: number;
  missing?: number[];
}

export interface Way {
  request: Request;
  signal: AbortSignal;
  /** told the bytes that are durable on the gateway */
  onsent: (bytes: number) => void;
}

/** Throws a Problem that says why, or the abort. What was begun is deleted when it is given up. */
export async function upload(blob: Blob, name: string, way: Way): Promise<AttachedRow> {
  const { file_id: id, part_bytes: size, missing = [] } = await ask<FileRow>(way, { method: "POST", path: AT, body: { name, size: blob.size } });
  try {
    let sent = 0;
    for (const number of missing) {
      const part = blob.slice(number * size, (number + 1) * size);
      await ask(way, { method: "PUT", path: `${AT}/${id}/parts/${number}`, bytes: part });
      sent += part.size;
      way.onsent(sent);
    }
    const row = await ask<FileRow>(way, { method: "POST", path: `${AT}/${id}/finish` });
    return { file_id: row.file_id, name: row.name, media_type: row.media_type, size: row.size };
  } catch (error) {
    void way.request({ method: "DELETE", path: `${AT}/${id}` }).catch(() => undefined);
    throw error;
  }
}

/** Each of these may be repeated; announcing twice only takes room until it is swept. */
async function ask<T>(way: Way, call: Omit<Call, "accessToken" | "signal">): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    way.signal.throwIfAborted();
    try {
      return (await (await way.request({ ...call, signal: way.signal })).json()) as T;
    } catch (error) {
      if (!(error instanceof Problem) || !error.retry || attempt === TRIES) throw error;
      await pause(backoffMs(attempt, Math.random(), error.retryAfterS), way.signal);
    }
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason as Error);
    });
  });
}
