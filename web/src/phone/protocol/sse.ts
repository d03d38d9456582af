/** A parser for `text/event-stream`, fed with text as it comes. */
export interface SseEvent {
  event: string;
  id: string | null;
  data: string;
}

export class SseParser {
  /** the last comment that said something */
  comment = "";
  private rest = "";
  private event = "";
  private id: string | null = null;
  private data: string[] = [];

  feed(text: string): SseEvent[] {
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop() ?? "";
    const events: SseEvent[] = [];
    for (const line of lines) {
      const done = this.line(line);
      if (done !== null) events.push(done);
    }
    return events;
  }

  private line(line: string): SseEvent | null {
    if (line === "") return this.dispatch();
    if (line.startsWith(":")) {
      this.comment = line.slice(1).trim() || this.comment;
      return null;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.data.push(value);
    else if (field === "event") this.event = value;
    else if (field === "id") this.id = value;
    return null;
  }

  private dispatch(): SseEvent | null {
    const { event, id, data } = this;
    this.event = "";
    this.id = null;
    this.data = [];
    return data.length === 0 ? null : { event, id, data: data.join("\n") };
  }
}

/** The gateway's last words on a stream are a comment with the close code that a socket would have had. */
export function closeCodeOf(comment: string): number | null {
  const found = /^(\d{4})\b/.exec(comment);
  return found === null ? null : Number(found[1]);
}

/** `<stream>:<seq>`; the stream id itself may hold colons. */
export function splitEventId(id: string): { stream: string; seq: number } | null {
  const at = id.lastIndexOf(":");
  const seq = Number(id.slice(at + 1));
  return at > 0 && Number.isInteger(seq) ? { stream: id.slice(0, at), seq } : null;
}
