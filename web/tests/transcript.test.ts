import { describe, expect, it } from "vitest";
import { chatRows } from "../src/phone/protocol/rows.ts";
import * as t from "../src/phone/protocol/transcript.ts";
import type { EventFrame, MessageRow } from "../src/phone/protocol/frames.ts";

const C = "cnv_1";

function message(id: string, role: "user" | "assistant" = "user", extra: Partial<MessageRow> = {}): MessageRow {
  return { message_id: id, conversation_id: C, role, content: id, created_at: `2026-01-01T00:00:0${id.at(-1)}Z`, ...extra };
}

function event(type: string, fields: object, seq?: number): EventFrame {
  return { type: "event", ts: 0, topic: `conversation:${C}`, event: { type, ...fields }, ...(seq === undefined ? {} : { seq }) };
}

function play(frames: EventFrame[], from = t.beginStream(t.emptyTranscript, "s1")): t.Transcript {
  return frames.reduce(t.applyEvent, from);
}

const RUN = { threadId: C, runId: "run_1" };

describe("the transcript", () => {
  it("replaces the deltas by the stored message of the same id", () => {
    const writing = play([
      event("message.created", { data: message("msg_1") }, 1),
      event("RUN_STARTED", RUN, 2),
      event("TEXT_MESSAGE_START", { messageId: "msg_2", role: "assistant" }),
      event("TEXT_MESSAGE_CONTENT", { messageId: "msg_2", delta: "Hel" }),
      event("TEXT_MESSAGE_CONTENT", { messageId: "msg_2", delta: "lo" }),
    ]);
    expect(writing.live["msg_2"]?.text).toBe("Hello");
    const done = play(
      [event("message.created", { data: message("msg_2", "assistant", { content: "Hello" }) }, 3), event("RUN_FINISHED", RUN, 4)],
      writing,
    );
    expect(done.live).toEqual({});
    expect(done.threads[C]?.messages.map((row) => row.content)).toEqual(["msg_1", "Hello"]);
    expect(done.runs["run_1"]?.state).toBe("finished");
  });
  it("shows an answer once when history brings it before its event does", () => {
    const writing = play([
      event("message.created", { data: message("msg_1") }, 1),
      event("RUN_STARTED", RUN, 2),
      event("TEXT_MESSAGE_START", { messageId: "msg_2", role: "assistant" }),
      event("TEXT_MESSAGE_CONTENT", { messageId: "msg_2", delta: "Hel" }),
    ]);
    const loaded = t.applyHistory(writing, C, [message("msg_1"), message("msg_2", "assistant")], null, true);
    expect(chatRows(loaded, C, [], "dev_1", 0).map((row) => row.key)).toEqual(["msg_1", "msg_2"]);
  });
  it("keeps the gateway's order where times tell another", () => {
    const state = play([
      event("message.created", { data: message("msg_1") }, 1),
      event("message.created", { data: message("msg_4", "assistant") }, 2),
      event("message.created", { data: message("msg_3") }, 3),
    ]);
    expect(state.threads[C]?.messages.map((row) => row.message_id)).toEqual(["msg_1", "msg_4", "msg_3"]);
  });
  it("keeps that order also of what history brought", () => {
    const page = [message("msg_4", "assistant", { seq: 2 }), message("msg_3", "user", { seq: 3 })];
    const later = event("message.created", { data: message("msg_2", "assistant") }, 4);
    const ids = (state: t.Transcript): string[] => (state.threads[C]?.messages ?? []).map((row) => row.message_id);
    const before = t.applyReset(play([event("message.created", { data: message("msg_1") }, 1)]));
    expect(ids(play([later], t.applyHistory(before, C, page, "cur", true)))).toEqual(["msg_4", "msg_3", "msg_2"]);
    expect(ids(t.applyHistory(play([later], before), C, page, "cur", true))).toEqual(["msg_4", "msg_3", "msg_2"]);
  });
  it("applies a replayed event once", () => {
    const frame = event("message.created", { data: message("msg_1") }, 5);
    const once = play([frame]);
    expect(play([frame], once)).toBe(once);
  });
  it("starts an answer over on a resumed link, from the text so far", () => {
    const before = play([
      event("RUN_STARTED", RUN, 1),
      event("TEXT_MESSAGE_START", { messageId: "msg_2", role: "assistant" }),
      event("TEXT_MESSAGE_CONTENT", { messageId: "msg_2", delta: "Hel" }),
    ]);
    const resumed = play(
      [
        event("TEXT_MESSAGE_START", { messageId: "msg_2", role: "assistant" }),
        event("TEXT_MESSAGE_CONTENT", { messageId: "msg_2", delta: "Hello th" }),
      ],
      t.beginStream(before, "s1"),
    );
    expect(resumed.live["msg_2"]?.text).toBe("Hello th");
    expect(resumed.seq).toBe(1);
  });
  it("forgets its position when the stream is another", () => {
    const state = t.beginStream(play([event("RUN_STARTED", RUN, 9)]), "s2");
    expect(state).toMatchObject({ stream: "s2", seq: 0 });
  });
  it("takes a snapshot of several frames as one", () => {
    let state = t.applyReset(play([event("message.created", { data: message("msg_1") }, 1)]));
    const row = { title: null, created_at: "", updated_at: "" };
    state = t.applySnapshot(state, {
      type: "snapshot", seq: 40, more: true, pending_approvals: [], conversations: [{ conversation_id: C, ...row, active_run_id: "run_7" }],
    });
    expect(state.seq).toBe(1);
    state = t.applySnapshot(state, {
      type: "snapshot", seq: 40, pending_approvals: [], conversations: [{ conversation_id: "cnv_2", ...row }],
    });
    expect(Object.keys(state.conversations)).toEqual([C, "cnv_2"]);
    expect(state.seq).toBe(40);
    expect(state.runs["run_7"]?.state).toBe("running");
    expect(state.threads[C]?.stale).toBe(true);
  });
  it("replaces a stale thread by its newest page, and joins older ones", () => {
    let state = t.applyReset(play([event("message.created", { data: message("msg_1") }, 1)]));
    state = t.applyHistory(state, C, [message("msg_4"), message("msg_5")], "cur", true);
    expect(state.threads[C]?.messages.map((row) => row.message_id)).toEqual(["msg_4", "msg_5"]);
    state = t.applyHistory(state, C, [message("msg_2"), message("msg_3")], null, false);
    expect(state.threads[C]?.messages.map((row) => row.message_id)).toEqual(["msg_2", "msg_3", "msg_4", "msg_5"]);
    expect(state.threads[C]?.older).toBeNull();
  });
  it("shows a failed run and drops its half-written answer", () => {
    const state = play([
      event("RUN_STARTED", RUN, 1),
      event("TEXT_MESSAGE_START", { messageId: "msg_2", role: "assistant" }),
      event("RUN_ERROR", { runId: "run_1", code: "provider_unavailable", message: "The model did not answer." }, 2),
    ]);
    const rows = chatRows(state, C, [], "dev_1", 0);
    expect(rows).toHaveLength(1);
    expect(rows[0]).toMatchObject({ kind: "run", run: { state: "failed" } });
  });
  it("gathers a tool call from its parts", () => {
    const state = play([
      event("RUN_STARTED", RUN, 1),
      event("TOOL_CALL_START", { toolCallId: "t1", toolCallName: "clock" }),
      event("TOOL_CALL_ARGS", { toolCallId: "t1", delta: '{"a"' }),
      event("TOOL_CALL_ARGS", { toolCallId: "t1", delta: ":1}" }),
      event("TOOL_CALL_RESULT", { toolCallId: "t1", messageId: "m", content: "12:00" }, 2),
    ]);
    expect(state.runs["run_1"]?.steps).toEqual([{ kind: "call", id: "t1", name: "clock", args: '{"a":1}', result: "12:00" }]);
  });
  it("records who decided an approval", () => {
    const state = play([
      event("approval.requested", { data: { approval_id: "apr_1", action: "{}", title: "x" } }, 1),
      event("approval.decided", { data: { approval_id: "apr_1", decision: "deny", device_id: "dev_2", at: "2026-01-01T00:00:00Z" } }, 2),
    ]);
    expect(state.approvals["apr_1"]).toMatchObject({ state: "denied", decided_by_device_id: "dev_2" });
  });
  it("keeps the newest fifty messages of a thread for the next start", () => {
    const rows = Array.from({ length: 60 }, (_, i) => message(`msg_${i}`, "user", { created_at: new Date(i * 1000).toISOString() }));
    const state = t.applyHistory(play([event("message.created", { data: rows[0] }, 1)]), C, rows, null, true);
    expect(t.forStorage(state).threads[C]).toMatchObject({ stale: true });
    expect(t.forStorage(state).threads[C]?.messages).toHaveLength(50);
  });
});
