/** The event stream over plain HTTP, for networks that let no socket through. */
import type { Credentials } from "../device/credentials.ts";
import { Problem } from "../device/http.ts";
import type { StopReason } from "../protocol/closecodes.ts";
import { parseFrame, type ServerFrame } from "../protocol/frames.ts";
import { closeCodeOf, SseParser, splitEventId, type SseEvent } from "../protocol/sse.ts";
import { refusalOf } from "./refusals.ts";

export interface StreamEnd {
  status: number;
  /** why the gateway ended a stream that was open, where it said so */
  code?: number;
  retryAfterS?: number;
  refusal?: StopReason;
}

interface StreamHooks {
  onOpen(): void;
  onFrame(frame: ServerFrame, stream?: string): void;
}

/** The gateway sends a comment every 15 s; two missed in a row mean the line is dead. */
const SILENCE_MS = 35_000;

export async function openStream(
  credentials: Credentials,
  resume: { stream: string; after: number } | null,
  signal: AbortSignal,
  hooks: StreamHooks,
): Promise<StreamEnd> {
  const query = resume === null ? "" : `?after=${resume.after}&stream=${encodeURIComponent(resume.stream)}`;
  const silence = new AbortController();
  try {
    const response = await credentials.call({
      method: "GET",
      path: `/api/v1/events${query}`,
      headers: { Accept: "text/event-stream" },
      signal: AbortSignal.any([signal, silence.signal]),
    });
    hooks.onOpen();
    const code = closeCodeOf(await read(response, silence, hooks));
    return { status: 200, ...(code === null ? {} : { code }) };
  } catch (error) {
    if (!(error instanceof Problem)) return { status: 0 };
    const refusal = refusalOf(error.code);
    return {
      status: error.status,
      ...(error.retryAfterS === undefined ? {} : { retryAfterS: error.retryAfterS }),
      ...(refusal === null ? {} : { refusal }),
    };
  }
}

/** Delivers what comes; the stream's last comment. */
async function read(response: Response, silence: AbortController, hooks: StreamHooks): Promise<string> {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new SseParser();
  for (;;) {
    const timer = setTimeout(() => silence.abort(), SILENCE_MS);
    const { done, value } = await reader.read().finally(() => clearTimeout(timer));
    if (done) return parser.comment;
    for (const event of parser.feed(value)) deliver(event, hooks);
  }
}

function deliver(event: SseEvent, hooks: StreamHooks): void {
  const frame = parseFrame(event.data);
  if (frame === null) return;
  const position = event.id === null ? null : splitEventId(event.id);
  hooks.onFrame(frame, position?.stream);
}
