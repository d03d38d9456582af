import { describe, expect, it } from "vitest";
import { clockOffset, learnClock } from "../src/phone/device/http.ts";
import { canonical, readAction, visibleParts } from "../src/phone/protocol/action.ts";
import { isWholeCode, normaliseCode, parseFragment, parseScanned } from "../src/phone/protocol/invite.ts";
import { hashText } from "../src/shared/base64url.ts";
import { createDeviceKey, exportPublicJwk, signProof, thumbprint } from "../src/shared/jose.ts";
import { makeUlid } from "../src/shared/ulid.ts";
import type { ApprovalRow } from "../src/phone/protocol/frames.ts";

const ORIGIN = "https://gw.example:18790";

describe("a pairing link", () => {
  it("is read from its fragment", () => {
    expect(parseFragment("#v=1&i=inv_1&s=abc&g=k&x=1800000000", ORIGIN)).toEqual({
      origin: ORIGIN, invite_id: "inv_1", secret: "abc", expires_at: 1800000000,
    });
    expect(parseFragment("", ORIGIN)).toBe("not_a_link");
    expect(parseFragment("#v=2&i=inv_1&s=a", ORIGIN)).toBe("version");
    expect(parseFragment("#v=1&i=inv_1", ORIGIN)).toBe("incomplete");
  });
  it("of another gateway is refused", () => {
    expect(parseScanned("https://evil.example/pair#v=1&i=inv_1&s=a", ORIGIN)).toBe("other_gateway");
    expect(parseScanned("hello", ORIGIN)).toBe("not_a_link");
    expect(parseScanned(`${ORIGIN}/pair#v=1&i=inv_1&s=a`, ORIGIN)).toMatchObject({ secret: "a" });
  });
  it("may be a typed code instead", () => {
    expect(normaliseCode(" ol1i-abcd ")).toBe("0111ABCD");
    expect(isWholeCode("0111ABCD")).toBe(true);
    expect(isWholeCode("0111ABC")).toBe(false);
    expect(isWholeCode("0111ABCU")).toBe(false);
  });
});

async function row(action: string): Promise<ApprovalRow> {
  return {
    approval_id: "apr_1", run_id: "run_1", conversation_id: "cnv_1", action, action_sha256: await hashText(action),
    title: "", risk: "low", state: "pending", created_at: "", expires_at: "",
  };
}

describe("an action", () => {
  const good = canonical({ tool: "pay", run_id: "run_1", approval_id: "apr_1", args: { b: [1, "é"], a: null } });
  it("is read when the text is what was announced", async () => {
    expect(good).toBe('{"approval_id":"apr_1","args":{"a":null,"b":[1,"é"]},"run_id":"run_1","tool":"pay"}');
    expect(await readAction(await row(good))).toEqual({ tool: "pay", args: { a: null, b: [1, "é"] } });
  });
  it("is refused when it hashes to something else", async () => {
    expect(await readAction({ ...(await row(good)), action: good.replace("pay", "buy") })).toBe("hash");
  });
  it("is refused when it could be read in two ways", async () => {
    const twice = '{"approval_id":"apr_1","args":{"to":"bob","to":"eve"},"run_id":"run_1","tool":"pay"}';
    expect(await readAction(await row(twice))).toBe("not_canonical");
  });
  it("is refused when it belongs to another request", async () => {
    expect(await readAction({ ...(await row(good)), approval_id: "apr_2" })).toBe("other_request");
  });
  it("hides nothing: bidirectional, zero-width and control characters get names", () => {
    const parts = visibleParts("pay\u202Ebob\u200B\u0007\u3164x\n");
    expect(parts.filter((part) => part.mark).map((part) => part.text)).toEqual(["U+202E", "U+200B", "U+0007", "U+3164", "↵"]);
    expect(visibleParts("plain é 日本")).toEqual([{ text: "plain é 日本", mark: false }]);
    expect(visibleParts("\ud800")[0]).toEqual({ text: "U+D800", mark: true });
  });
});

describe("keys", () => {
  it("sign proofs that the key itself verifies", async () => {
    const keys = await createDeviceKey();
    const jwk = await exportPublicJwk(keys);
    const proof = await signProof(keys, jwk, { method: "POST", url: `${ORIGIN}/x`, issuedAt: 1, id: "j", accessToken: "t" });
    const [head, body, signature] = proof.split(".") as [string, string, string];
    expect(JSON.parse(atob(head.replaceAll("-", "+").replaceAll("_", "/")))).toMatchObject({ typ: "dpop+jwt", alg: "ES256", jwk });
    const raw = Uint8Array.from(atob(signature.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    const ok = await crypto.subtle.verify({ name: "ECDSA", hash: "SHA-256" }, keys.publicKey, raw, new TextEncoder().encode(`${head}.${body}`));
    expect(ok).toBe(true);
    expect(keys.privateKey.extractable).toBe(false);
    expect(await thumbprint(jwk)).toHaveLength(43);
  });
  it("make ULIDs that sort by time", () => {
    expect(makeUlid(1)).toMatch(/^[0-9A-HJKMNP-TV-Z]{26}$/);
    expect(makeUlid(1000) < makeUlid(2000)).toBe(true);
  });
});

describe("the gateway's clock", () => {
  it.each([
    ["milliseconds", (ms: number) => ms],
    ["seconds", (ms: number) => Math.round(ms / 1000)],
    ["RFC 3339", (ms: number) => new Date(ms).toISOString()],
  ])("is learned from %s", (_form, told) => {
    expect(learnClock(told(Date.now() + 3_600_000))).toBe(true);
    expect(Math.abs(clockOffset() - 3_600_000)).toBeLessThan(5_000);
  });
  it("is not learned from what is no time", () => {
    learnClock(Date.now());
    for (const nonsense of [undefined, null, "", "soon", 0, Number.NaN, true, {}]) expect(learnClock(nonsense)).toBe(false);
    expect(Math.abs(clockOffset())).toBeLessThan(5_000);
  });
});
