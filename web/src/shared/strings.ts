/** The one way text gets onto a page of the phone app. */
import { strings } from "./strings.en.ts";
import { translator, type KeyOf } from "./translator.ts";

export type StringKey = KeyOf<typeof strings>;
export const t = translator("phone", strings);
