/** The one way text gets onto an admin page. */
import { translator, type KeyOf } from "../shared/translator.ts";
import { strings } from "./strings.en.ts";

export type StringKey = KeyOf<typeof strings>;
export const t = translator("admin", strings);
