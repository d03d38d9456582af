import { describe, expect, it } from "vitest";
import { answerOf, begin, isGood } from "../src/phone/protocol/answer.ts";
import type { Field, QuestionRow } from "../src/phone/questions.svelte.ts";

const field = (more: Partial<Field>): Field => ({ name: "one", kind: "text", title: "", description: "", required: true, options: [], minimum: null, maximum: null, format: null, default: null, ...more });
const form = (fields: Field[]): QuestionRow => ({ question_id: "q", kind: "form", title: "", text: "?", fields, state: "open", created_at: "", expires_at: "", closed_at: null });

describe("an answer", () => {
  it("begins with what was proposed", () => {
    expect(begin([field({ default: "milk" }), field({ name: "two", kind: "choices" }), field({ name: "three", kind: "boolean" }), field({ name: "four", kind: "boolean", required: false })])).toEqual({ one: "milk", two: [], three: false, four: null });
  });

  it("is sent only when every field takes it", () => {
    expect(isGood(field({}), "")).toBe(false);
    expect(isGood(field({ required: false }), "")).toBe(true);
    expect(isGood(field({ minimum: 2, maximum: 3 }), "äöü")).toBe(true);
    expect(isGood(field({ minimum: 2 }), "a")).toBe(false);
    expect(isGood(field({ kind: "integer" }), 1.5)).toBe(false);
    expect(isGood(field({ kind: "number", maximum: 1 }), 2)).toBe(false);
    expect(isGood(field({ kind: "number", minimum: 0 }), 0)).toBe(true);
    expect(isGood(field({ kind: "choices", minimum: 1 }), [])).toBe(false);
    expect(isGood(field({ kind: "boolean" }), false)).toBe(true);
  });

  it("leaves out what nobody said, and gives times their zone", () => {
    const row = form([field({}), field({ name: "note", required: false }), field({ name: "when", format: "date-time" })]);
    expect(answerOf(row, { one: "a", note: "", when: "2026-02-28T10:00" })).toEqual({ one: "a", when: new Date("2026-02-28T10:00").toISOString() });
    expect(answerOf({ ...row, kind: "text" }, { one: "at seven" })).toBe("at seven");
  });
});
