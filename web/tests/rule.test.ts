import { describe, expect, it } from "vitest";
import { choicesOf, fits, kindsFor, ruleText } from "../src/phone/protocol/rule.ts";

const ARGS = { path: "notes/a.txt", content: "x", mode: 2 };

describe("a rule", () => {
  it("covers exactly the call at first, as canonical text", () => {
    expect(ruleText("apr_1", "files.write", choicesOf(ARGS), 60)).toBe(
      '{"approval_id":"apr_1","args":{"content":{"is":"x"},"mode":{"is":2},"path":{"is":"notes/a.txt"}},"ends_in_s":60,"tool":"files.write"}',
    );
  });

  it("says for each argument what was chosen", () => {
    const [content, mode, path] = choicesOf(ARGS);
    path!.kind = "begins";
    content!.kind = "longest";
    mode!.kind = "range";
    mode!.to = 5;
    expect(ruleText("apr_1", "t", [content!, mode!, path!], 60)).toContain(
      '"args":{"content":{"longest":200},"mode":{"from":2,"to":5},"path":{"begins":"notes/"}}',
    );
  });

  it("does not fit when it would not cover the call itself", () => {
    const [content, mode, path] = choicesOf({ ...ARGS, content: "x".repeat(300) });
    for (const choice of [content!, mode!, path!]) expect(fits(choice)).toBe(true);
    Object.assign(path!, { kind: "begins", begins: "other/" });
    Object.assign(content!, { kind: "longest", longest: 299 });
    Object.assign(mode!, { kind: "range", from: 3, to: 5 });
    for (const choice of [content!, mode!, path!]) expect(fits(choice)).toBe(false);
    path!.begins = "";
    expect(fits(path!)).toBe(false);
  });

  it("offers only what makes sense for the value", () => {
    expect(kindsFor("x")).toEqual(["is", "begins", "longest"]);
    expect(kindsFor(1)).toEqual(["is", "range"]);
    expect(kindsFor({ a: 1 })).toEqual(["is"]);
  });
});
