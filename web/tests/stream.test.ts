import { describe, expect, it } from "vitest";
import { noAcks, planAck } from "../src/phone/protocol/acks.ts";
import { parseFrame } from "../src/phone/protocol/frames.ts";
import { closeCodeOf, SseParser, splitEventId } from "../src/phone/protocol/sse.ts";

describe("server-sent events", () => {
  it("come out whole however the bytes are cut", () => {
    const text = ': hello\n\nid: str_1:7\nevent: x\ndata: {"a":1}\ndata: 2\n\n:\n\ndata: last\r\n\r\n';
    for (let cut = 1; cut < text.length; cut += 1) {
      const parser = new SseParser();
      const events = [...parser.feed(text.slice(0, cut)), ...parser.feed(text.slice(cut))];
      expect(events.map((event) => event.data)).toEqual(['{"a":1}\n2', "last"]);
      expect(events[0]).toMatchObject({ id: "str_1:7", event: "x" });
    }
  });
  it("end with a comment that holds the close code", () => {
    const parser = new SseParser();
    expect(parser.feed('data: 1\n\n:\n\n: 4501 this dev')).toHaveLength(1);
    parser.feed("ice was revoked\n\n:\n\n");
    expect(parser.comment).toBe("4501 this device was revoked");
    expect(closeCodeOf(parser.comment)).toBe(4501);
    expect(closeCodeOf("")).toBeNull();
    expect(closeCodeOf("45012 is no code")).toBeNull();
  });
  it("name their stream and position", () => {
    expect(splitEventId("str_1:7")).toEqual({ stream: "str_1", seq: 7 });
    expect(splitEventId("7")).toBeNull();
  });
});

describe("frames", () => {
  it("that make no sense are skipped", () => {
    expect(parseFrame("nonsense")).toBeNull();
    expect(parseFrame("[]")).toBeNull();
    expect(parseFrame("null")).toBeNull();
    expect(parseFrame('{"type":"pong"}')).toEqual({ type: "pong" });
  });
});

describe("acknowledgements", () => {
  it("are gathered while somebody looks, held back while nobody does, and never so late that sending pauses", () => {
    expect(planAck(noAcks, true)).toBe("hold");
    expect(planAck({ acked: 0, unacked: 3 }, true)).toBe("soon");
    expect(planAck({ acked: 0, unacked: 3 }, false)).toBe("hold");
    expect(planAck({ acked: 0, unacked: 128 }, false)).toBe("now");
  });
});
