import { describe, expect, it } from "vitest";
import { AGAIN, sendAgain } from "../src/phone/protocol/again.ts";
import type { MessageRow } from "../src/phone/protocol/frames.ts";
import type { OutboxItem } from "../src/phone/protocol/outbox.ts";
import { chatRows } from "../src/phone/protocol/rows.ts";
import * as t from "../src/phone/protocol/transcript.ts";
import type { EventFrame } from "../src/phone/protocol/frames.ts";

const C = "cnv_1";
const RUN = { threadId: C, runId: "run_1" };

function message(id: string, role: "user" | "assistant" = "user", extra: Partial<MessageRow> = {}): MessageRow {
  return { message_id: id, conversation_id: C, role, content: `say ${id}`, created_at: "2026-01-01T00:00:01Z", ...extra };
}

function event(type: string, fields: object, seq: number): EventFrame {
  return { type: "event", ts: 0, topic: `conversation:${C}`, event: { type, ...fields }, seq };
}

function offered(frames: EventFrame[], outbox: OutboxItem[] = []): string | null {
  const state = frames.reduce(t.applyEvent, t.beginStream(t.emptyTranscript, "s1"));
  return sendAgain(chatRows(state, C, outbox, "dev_1", 0))?.content ?? null;
}

const said = event("message.created", { data: message("msg_1") }, 1);
const started = event("RUN_STARTED", RUN, 2);
const cut = (code: string): EventFrame => event("RUN_ERROR", { ...RUN, code, message: "Stopped." }, 3);

describe("sending again", () => {
  it("is offered when the gateway was stopped in the middle of an answer", () => {
    expect(offered([said, started, cut("gateway_restarted")])).toBe("say msg_1");
  });
  it("is offered when only the stored message tells the error", () => {
    const stored = message("msg_1", "user", { run_id: "run_1", error: { code: "gateway_restarted", message: "Stopped." } });
    expect(offered([event("message.created", { data: stored }, 1)])).toBe("say msg_1");
  });
  it.each(["tool_outcome_unknown", "provider_unauthorized"])("is not offered after %s", (code) => {
    expect(AGAIN.has(code)).toBe(false);
    expect(offered([said, started, cut(code)])).toBeNull();
  });
  it("is not offered once the talk has gone on, or while something waits to be sent", () => {
    const failed = [said, started, cut("gateway_restarted")];
    expect(offered([...failed, event("message.created", { data: message("msg_2") }, 4)])).toBeNull();
    expect(offered([...failed, event("message.created", { data: message("msg_2", "assistant") }, 4)])).toBeNull();
    const item: OutboxItem = {
      id: "01", conversation: C, content: "x", state: "queued", created_ms: 0, not_before_ms: 0, attempts: 0, confirmed: false, error: null,
    };
    expect(offered(failed, [item])).toBeNull();
  });
  it("is not offered for an answer that came", () => {
    expect(offered([said, started, event("RUN_FINISHED", RUN, 3)])).toBeNull();
  });
});
