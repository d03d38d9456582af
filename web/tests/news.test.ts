import { expect, it } from "vitest";
import { news } from "../src/phone/news.svelte.ts";

it("an older answer does not take the place of a newer one", async () => {
  const answers: ((unread: number) => void)[] = [];
  const ask = () =>
    new Promise<Response>((resolve) => answers.push((unread) => resolve(new Response(JSON.stringify({ rows: [], next: null, unread })))));
  const both = [news.load(ask), news.load(ask)];
  answers[1]!(0);
  await both[1];
  answers[0]!(7);
  await both[0];
  expect(news.unread).toBe(0);
});
