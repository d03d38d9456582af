/** Answers read aloud by the browser's own voice: off at first, and this device's alone. */
import { load, save } from "./device/database.ts";
import { plainLine } from "./protocol/transcript.ts";

const KEY = "speech";

class Speech {
  readonly possible = "speechSynthesis" in window;
  on = $state(false);

  async load(): Promise<void> {
    this.on = this.possible && (await load<boolean>("drafts", `:${KEY}`)) === true;
  }

  async set(on: boolean): Promise<void> {
    this.on = on;
    if (!on) this.stop();
    await save("drafts", `:${KEY}`, on);
  }

  say(text: string): void {
    if (!this.on || document.hidden) return;
    // Code is read by nobody aloud.
    const words = plainLine(text.replace(/```[\s\S]*?(```|$)/g, " "));
    speechSynthesis.cancel();
    if (words !== "") speechSynthesis.speak(new SpeechSynthesisUtterance(words));
  }

  stop(): void {
    if (this.possible) speechSynthesis.cancel();
  }
}

export const speech = new Speech();
void speech.load().catch(() => undefined);
