import { translator } from "../shared/translator.ts";
import { strings } from "./pages/strings.en.chat.ts";

export const say = translator("chat", strings);
