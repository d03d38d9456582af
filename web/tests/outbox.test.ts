import { describe, expect, it } from "vitest";
import * as box from "../src/phone/protocol/outbox.ts";

const NOW = 1_800_000_000_000;

describe("the outbox", () => {
  it("lets one message per conversation out at a time", () => {
    let items = box.enqueue([], "A", "cnv_1", "one", NOW);
    items = box.enqueue(items, "B", "cnv_1", "two", NOW);
    items = box.enqueue(items, "C", "cnv_2", "three", NOW);
    expect(box.sendable(items, NOW).map((item) => item.id)).toEqual(["A", "C"]);
    items = box.markSending(items, "A");
    expect(box.sendable(items, NOW).map((item) => item.id)).toEqual(["C"]);
  });
  it("keeps the id of a message whose answer was lost", () => {
    let items = box.markSending(box.enqueue([], "A", "cnv_1", "one", NOW), "A");
    items = box.requeueAll(items);
    expect(box.sendable(items, NOW)[0]).toMatchObject({ id: "A", attempts: 1 });
  });
  it("gives a refused message a new id when tried again", () => {
    let items = box.markFailed(box.enqueue([], "A", "cnv_1", "one", NOW), "A", "invalid");
    expect(box.sendable(items, NOW)).toEqual([]);
    items = box.retry(items, "A", "B", NOW);
    expect(box.sendable(items, NOW)[0]).toMatchObject({ id: "B", error: null });
  });
  it("moves what was written after it into the conversation the gateway made", () => {
    let items = box.enqueue([], "A", "new:1", "one", NOW);
    items = box.enqueue(items, "B", "new:1", "two", NOW);
    items = box.markSent(items, "A", "cnv_9");
    expect(items).toHaveLength(1);
    expect(items[0]).toMatchObject({ id: "B", conversation: "cnv_9" });
  });
  it("asks before sending what is over an hour old and was never sent", () => {
    let items = box.enqueue([], "A", "cnv_1", "one", NOW);
    const later = NOW + 3_600_001;
    expect(box.sendable(items, later)).toEqual([]);
    items = box.retry(items, "A", "unused", later);
    expect(box.sendable(items, later)[0]?.id).toBe("A");
  });
  it("but not about one that may have arrived already", () => {
    const items = box.requeueAll(box.markSending(box.enqueue([], "A", "cnv_1", "one", NOW), "A"));
    expect(box.sendable(items, NOW + 7_200_000)).toHaveLength(1);
  });
  it("waits for its time after a limit", () => {
    const items = box.markLater(box.enqueue([], "A", "cnv_1", "one", NOW), "A", NOW + 5000);
    expect(box.sendable(items, NOW)).toEqual([]);
    expect(box.sendable(items, NOW + 5000)).toHaveLength(1);
  });
});
