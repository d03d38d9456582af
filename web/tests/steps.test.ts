import { describe, expect, it } from "vitest";
import { diffLines, nearby } from "../src/phone/protocol/diff.ts";
import { endThoughts, MOST_STEPS, stepAfter, type Step } from "../src/phone/protocol/steps.ts";

const play = (events: { type: string; [field: string]: unknown }[], from: Step[] = []): Step[] => events.reduce(stepAfter, from);
const plan = (content: unknown) => ({ type: "ACTIVITY_SNAPSHOT", messageId: "a1", activityType: "PLAN", content });

describe("the steps of a run", () => {
  it("puts a thought together, and adds nothing to one that has ended", () => {
    const thinking = play([
      { type: "REASONING_MESSAGE_START", messageId: "m1" },
      { type: "REASONING_MESSAGE_CONTENT", messageId: "m1", delta: "let me " },
      { type: "REASONING_MESSAGE_CONTENT", messageId: "m1", delta: "see" },
    ]);
    expect(thinking).toEqual([{ kind: "thought", id: "m1", text: "let me see", ended: false }]);
    const later = play([{ type: "REASONING_MESSAGE_CONTENT", messageId: "m1", delta: "!" }], endThoughts(thinking));
    expect(later).toEqual([{ kind: "thought", id: "m1", text: "let me see", ended: true }]);
  });
  it("replaces what is told again, in its place", () => {
    const steps = play([
      plan({ entries: [{ content: "look", status: "pending" }] }),
      { type: "TOOL_CALL_START", toolCallId: "t1", toolCallName: "clock" },
      plan({ entries: [{ content: "look", status: "completed" }] }),
    ]);
    expect(steps.map((step) => step.kind)).toEqual(["plan", "call"]);
    expect(steps[0]).toEqual({ kind: "plan", id: "a1", entries: [{ content: "look", status: "completed" }] });
  });
  it("is bounded, and takes nothing for granted", () => {
    const many = Array.from({ length: 2 * MOST_STEPS }, (_, n) => ({ type: "TOOL_CALL_START", toolCallId: `t${n}` }));
    expect(play(many)).toHaveLength(MOST_STEPS);
    expect(play(many).at(-1)?.id).toBe(`t${2 * MOST_STEPS - 1}`);
    const long = play([{ type: "REASONING_MESSAGE_START", messageId: "m" }, ...Array.from({ length: 30 }, () => ({ type: "REASONING_MESSAGE_CONTENT", messageId: "m", delta: "x".repeat(1000) }))]);
    expect((long[0] as { text: string }).text).toHaveLength(20_000);
    expect(play([plan(null), plan("x"), { ...plan({}), messageId: undefined }])).toEqual([{ kind: "plan", id: "a1", entries: [] }]);
    expect(play([plan({ entries: Array.from({ length: 80 }, () => 7) })])[0]).toHaveProperty("entries.length", 50);
    const odd = play([{ type: "ACTIVITY_SNAPSHOT", messageId: "w", activityType: "TOOL", content: { title: 7, status: "gone", changes: [{ path: "a", after: 3 }] } }]);
    expect(odd).toEqual([{ kind: "work", id: "w", title: "", status: "pending", paths: [], output: "", changes: [{ path: "a", before: "", after: "" }] }]);
    expect(play([{ type: "ACTIVITY_SNAPSHOT", messageId: "w", activityType: "WEATHER", content: {} }])).toEqual([]);
  });
});

describe("what is near a change", () => {
  it("is shown, and the rest counted", () => {
    const before = Array.from({ length: 20 }, (_, n) => `${n}`).join("\n");
    const shown = nearby(diffLines(before, before.replace("10", "ten")), 2);
    expect(shown.map((line) => (line.kind === "skipped" ? `… ${line.count}` : line.text))).toEqual(["… 8", "8", "9", "10", "ten", "11", "12", "… 7"]);
  });
});
