/** All German of the phone app, loaded where it is spoken. */
import type { Translation } from "../shared/translator.ts";
import { strings as phone } from "../shared/strings.de.ts";
import { strings as chat } from "./pages/strings.de.chat.ts";
import { strings as automations } from "./pages/strings.de.automations.ts";
import { strings as memos } from "./pages/strings.de.memos.ts";
import { strings as things } from "./pages/strings.de.things.ts";
import { strings as notifications } from "./pages/strings.de.notifications.ts";

export const translation: Translation = { language: "de", tables: { phone, automations, chat, memos, notifications, things } };
