/** A recording on its way to text: recorded here, sent as a file, transcribed by the gateway, deleted there. */
import { app } from "./app.svelte.ts";
import { Problem } from "./device/http.ts";
import { upload } from "./live/upload.ts";
import type { AttachedRow } from "./protocol/frames.ts";

export interface VoiceTerms {
  available: boolean;
  why: string;
  max_bytes: number;
  max_seconds: number;
  keeps_audio: boolean;
}

/** What browsers record: all but Safari the first, Safari the second. */
const FORMATS: [type: string, ending: string][] = [
  ["audio/webm;codecs=opus", "webm"],
  ["audio/mp4", "m4a"],
  ["audio/ogg;codecs=opus", "ogg"],
];
/** Speech is well understood at that, and a minute has a quarter of a megabyte. */
const BITS_PER_SECOND = 32_000;

export const canRecord = "MediaRecorder" in window && "mediaDevices" in navigator;

let known: Promise<VoiceTerms> | null = null;

/** Whether the gateway transcribes, asked once. */
export function voiceTerms(): Promise<VoiceTerms> {
  known ??= app
    .call("GET", "/api/v1/voice")
    .then((response) => response.json() as Promise<VoiceTerms>)
    .catch((error: unknown) => {
      known = null;
      throw error;
    });
  return known;
}

export interface Heard {
  text: string;
  file: AttachedRow | null;
}

export class Recording {
  state = $state<"asking" | "recording" | "working" | "failed">("asking");
  seconds = $state(0);
  error = $state("");
  private recorder: MediaRecorder | null = null;
  private stream: MediaStream | null = null;
  private chunks: Blob[] = [];
  private name = "";
  private clock: ReturnType<typeof setInterval> | undefined;
  private file: AttachedRow | null = null;
  private readonly control = new AbortController();

  constructor(
    private readonly terms: VoiceTerms,
    private readonly done: (heard: Heard) => void,
  ) {}

  async start(): Promise<void> {
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    } catch (error) {
      this.fail(error instanceof DOMException && error.name === "NotAllowedError" ? "denied" : "nomic");
      return;
    }
    // Cancelled while the browser asked.
    if (this.control.signal.aborted) return this.release();
    const [type, ending] = FORMATS.find(([one]) => MediaRecorder.isTypeSupported(one)) ?? ["", "webm"];
    this.name = `recording.${ending}`;
    this.recorder = new MediaRecorder(this.stream, { audioBitsPerSecond: BITS_PER_SECOND, ...(type === "" ? {} : { mimeType: type }) });
    this.recorder.ondataavailable = (event) => this.chunks.push(event.data);
    this.recorder.onstop = () => void this.transcribe();
    // The system took the microphone away, as for a call.
    this.recorder.onerror = () => this.finish();
    this.recorder.start(1000);
    this.state = "recording";
    this.clock = setInterval(() => {
      this.seconds += 1;
      if (this.seconds >= this.terms.max_seconds) this.finish();
    }, 1000);
  }

  finish(): void {
    clearInterval(this.clock);
    if (this.recorder?.state !== "recording") return;
    this.state = "working";
    this.recorder.stop();
    this.release();
  }

  /** Nothing of it stays, here or on the gateway. */
  cancel(): void {
    this.control.abort();
    clearInterval(this.clock);
    if (this.recorder !== null) this.recorder.onstop = null;
    if (this.recorder?.state === "recording") this.recorder.stop();
    this.release();
    this.chunks = [];
    if (this.file !== null) void app.call("DELETE", `/api/v1/files/${this.file.file_id}`).catch(() => undefined);
  }

  get canRetry(): boolean {
    return this.chunks.length > 0 && !["type_refused", "too_large", "voice_unavailable"].includes(this.error);
  }

  /** Sent once; asked again for its text where that failed. */
  async transcribe(): Promise<void> {
    this.state = "working";
    this.error = "";
    const blob = new Blob(this.chunks);
    // Ended before the browser had anything.
    if (blob.size === 0) return this.done({ text: "", file: null });
    try {
      this.file ??= await upload(blob, this.name, {
        request: (call) => app.request(call),
        signal: this.control.signal,
        onsent: () => undefined,
      });
      const response = await app.request({
        method: "POST",
        path: "/api/v1/voice/transcriptions",
        body: { file_id: this.file.file_id },
        signal: this.control.signal,
      });
      const { text, file_id: kept } = (await response.json()) as { text: string; file_id: string | null };
      const file = kept === null ? null : this.file;
      this.file = null;
      this.done({ text, file });
    } catch (error) {
      if (this.control.signal.aborted) return;
      this.fail(error instanceof Problem ? error.code : "internal");
    }
  }

  private fail(code: string): void {
    this.error = code;
    this.state = "failed";
  }

  /** The browser's sign that the microphone is on goes out at once. */
  private release(): void {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
  }
}
