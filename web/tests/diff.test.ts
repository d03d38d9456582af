import { describe, expect, it } from "vitest";
import { diffLines, findDiffs } from "../src/phone/protocol/diff.ts";
import { editedAction, fieldsOf, unfit } from "../src/phone/protocol/edit.ts";
import type { ApprovalRow } from "../src/phone/protocol/frames.ts";

const signs = (lines: { kind: string; text: string }[]) => lines.map(({ kind, text }) => ({ same: " ", removed: "-", added: "+" })[kind] + text);

describe("a diff", () => {
  it("names what goes, what comes and what stays", () => {
    expect(signs(diffLines("a\nb\nc\nd", "a\nc\nx\nd"))).toEqual([" a", "-b", " c", "+x", " d"]);
    expect(signs(diffLines("", "new"))).toEqual(["+new"]);
    expect(diffLines("same", "same")).toEqual([{ kind: "same", text: "same" }]);
  });
  it("gives back both texts, whatever they are", () => {
    for (const [before, after] of [["a\na\nb", "b\na"], ["x", ""], ["1\n2\n3\n4", "4\n3\n2\n1"]] as const) {
      const lines = diffLines(before, after);
      expect(lines.filter((line) => line.kind !== "added").map((line) => line.text).join("\n")).toBe(before);
      expect(lines.filter((line) => line.kind !== "removed").map((line) => line.text).join("\n")).toBe(after);
    }
  });
  it("of texts too long to compare takes all away and adds all", () => {
    const long = Array.from({ length: 1200 }, (_, at) => `${at}`);
    expect(diffLines(long.join("\n"), long.map((line) => `${line}!`).join("\n"))).toHaveLength(2400);
  });
  it("is found in arguments of edits and in patches, deep down too", () => {
    expect(findDiffs({ path: "a", edits: [{ old_string: "x", new_string: "y" }] })[0]?.names).toEqual(["old_string", "new_string"]);
    expect(signs(findDiffs({ patch: "--- a\n+++ b\n@@ -1 +1 @@\n-x\n+y" })[0]!.lines)).toEqual([" --- a", " +++ b", " @@ -1 +1 @@", "-x", "+y"]);
    expect(signs(findDiffs({ oldText: null, newText: "fresh" })[0]!.lines)).toEqual(["+fresh"]);
    expect(findDiffs({ text: "- milk\n- eggs" })).toEqual([]);
  });
});

describe("an edit", () => {
  const row = { approval_id: "apr_1", run_id: "run_1" } as ApprovalRow;
  const action = { tool: "t", args: { b: true, n: 3, text: "hi", list: [1] } };
  it("keeps each argument's kind and makes canonical text", () => {
    const fields = fieldsOf(action)!;
    fields.find((field) => field.name === "n")!.typed = "4.5";
    expect(unfit(fields)).toBeNull();
    expect(editedAction(row, action, fields)).toBe('{"approval_id":"apr_1","args":{"b":true,"list":[1],"n":4.5,"text":"hi"},"run_id":"run_1","tool":"t"}');
    fields.find((field) => field.name === "list")!.typed = "[1,";
    expect(unfit(fields)).toBe("list");
  });
});
