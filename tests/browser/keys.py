"""A person at the keyboard: where Tab leads, and that it can be seen."""

from tests.browser.window import Window

MOST_STOPS = 60
_NAME = """(() => {
  const at = document.activeElement;
  return (at.ariaLabel || at.labels?.[0]?.innerText || at.textContent || '').trim();
})()"""
_RING = "getComputedStyle(document.activeElement).outlineStyle"


def tab_to(window: Window, name: str) -> list[str]:
    """Press Tab until the named control has the focus, and see that it shows it; the names of all stops."""
    stops: list[str] = []
    while len(stops) < MOST_STOPS:
        window.page.keyboard.press("Tab")
        stops.append(window.page.evaluate(_NAME))
        if stops[-1].startswith(name):
            assert window.page.evaluate(_RING) == "solid"
            return stops
    raise AssertionError(f"Tab does not reach '{name}': {stops}")
