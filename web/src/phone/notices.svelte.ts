/** Short notes at the edge of the page. They are read out politely and stay until dismissed or 8 s have passed. */
import { t, type StringKey } from "../shared/strings.ts";
import type { WireEvent } from "./protocol/frames.ts";

export interface Notice {
  id: number;
  text: string;
  href: string | null;
}

const STAY_MS = 8_000;

class Notices {
  list = $state<Notice[]>([]);
  private last = 0;

  add(text: string, href: string | null = null): void {
    const id = (this.last += 1);
    this.list = [...this.list.slice(-2), { id, text, href }];
    setTimeout(() => this.dismiss(id), STAY_MS);
  }

  dismiss(id: number): void {
    this.list = this.list.filter((notice) => notice.id !== id);
  }

  /** What the person should hear about wherever they are in the app. */
  onEvent(event: WireEvent, ownDevice: string): void {
    const data = event.data ?? {};
    if (event.type === "device.changed" && data["device_id"] !== ownDevice) {
      const key = `notice.device.${String(data["change"])}` as StringKey;
      if (t.has(key)) this.add(t(key));
    } else if (event.type === "alert.changed" && typeof data["title"] === "string") {
      const key = `notice.alert.${String(data["state"])}` as StringKey;
      if (t.has(key)) this.add(t(key, { title: data["title"] }));
    } else if (event.type === "question.asked" && typeof data["text"] === "string") {
      this.add(t("notice.question", { title: data["title"] === "" ? data["text"] : String(data["title"]) }), `/questions/${String(data["question_id"])}`);
    } else if (event.type === "notification.created") {
      const text = [data["title"], data["body"]].filter((part) => typeof part === "string" && part !== "").join(": ");
      if (text !== "") this.add(text);
    }
  }
}

export const notices = new Notices();
