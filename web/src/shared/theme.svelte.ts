export type Theme = "system" | "light" | "dark";

const KEY = "entobot-theme";

class ThemeChoice {
  value = $state<Theme>(read());

  set(theme: Theme): void {
    this.value = theme;
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // A locked-down browser: the choice lasts until the page is closed.
    }
    this.apply();
  }

  apply(): void {
    const root = document.documentElement;
    if (this.value === "system") delete root.dataset["theme"];
    else root.dataset["theme"] = this.value;
    const dark = this.value === "dark" || (this.value === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
    document.querySelector('meta[name="theme-color"]')?.setAttribute("content", dark ? "#10141a" : "#f6f7f9");
  }
}

function read(): Theme {
  try {
    const stored = localStorage.getItem(KEY);
    return stored === "light" || stored === "dark" ? stored : "system";
  } catch {
    return "system";
  }
}

export const theme = new ThemeChoice();
