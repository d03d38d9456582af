/** Everybody, for lists to choose from. Needs `users.manage`. */
import { answered, api, type Person } from "./api.ts";

export async function everybody(): Promise<Person[]> {
  const found: Person[] = [];
  let cursor: string | undefined;
  do {
    const page = await answered(api.GET("/api/v1/users", { params: { query: cursor === undefined ? {} : { cursor } } }));
    found.push(...page.rows);
    cursor = page.next ?? undefined;
  } while (cursor !== undefined);
  return found;
}
