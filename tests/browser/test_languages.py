"""The phone app in German, in a disguise that shows what is not translated or cut, and from right to left."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import NewWindow
from tests.browser.test_pages import SETTLED, TOO_WIDE, Album
from tests.browser.window import PHONE, Window, ask
from tests.support.process import GatewayProcess

PLAIN = r"""
(known) => {
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const left = [];
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const text = node.data.trim();
    const at = node.parentElement;
    if (!/\p{L}{2,}/u.test(text) || text.includes("⟦") || known.some((one) => text.includes(one))) continue;
    if (at.closest("script, style, time, .mono, .tool, .markdown, .print, pre, bdi, dd, option[lang]") || !at.checkVisibility()) continue;
    left.push(text);
  }
  return left;
}"""
"""Text of a page that comes from no catalogue. Ids, times, names and what people said are theirs."""
CUT = """
[...document.querySelectorAll("h1, h2, h3, p, button, label, legend, .label, .badge, a.button, li > span, option")]
  .filter((part) => part.checkVisibility() && !part.closest(".hidden-visually, .skip, pre, .title, .preview, ul[aria-label] a"))
  .filter((part) => ["hidden", "clip"].includes(getComputedStyle(part).overflowX) && part.scrollWidth > part.clientWidth + 1)
  .map((part) => part.outerHTML.slice(0, 120))
"""
BEYOND = """
[...document.querySelectorAll("body *")]
  .filter((part) => part.checkVisibility() && !part.closest("pre, table, .hidden-visually, .skip"))
  .filter((part) => part.getBoundingClientRect().left < -1)
  .map((part) => part.outerHTML.slice(0, 120))
"""
# What the gateway itself writes, titles of notifications among it, is English.
KNOWN = [
    "The agent answered",
    "Kitchen",
    "Ada",
    "127.0.0.1",
    "hello",
    "buy milk",
    "note",
    "Entobot",
    "entobot",
    "Dinner",
]


def speaking(language: str) -> str:
    return f"localStorage.setItem('entobot.language', {language!r})"


class Reader:
    """Looks at each page for what is not translated, cut, or out of its place."""

    def __init__(self, window: Window, language: str) -> None:
        self._window = window
        self._language = language
        self.found: dict[str, object] = {}

    def look(self, name: str) -> None:
        page = self._window.page
        ask(page, SETTLED)
        checks = {"cut": page.evaluate(CUT), "too wide": page.evaluate(TOO_WIDE), "beyond": page.evaluate(BEYOND)}
        checks["plain"] = page.evaluate(PLAIN, KNOWN)
        self.found |= {f"{name} {what}": parts for what, parts in checks.items() if parts}
        assert page.evaluate("document.documentElement.lang") == self._language


@pytest.mark.parametrize(("language", "direction"), [("en-XA", "ltr"), ("ar-XB", "rtl")])
def test_every_sentence_is_translated_and_has_room(
    gateway: GatewayProcess, new_window: NewWindow, language: str, direction: str
) -> None:
    window = new_window(gateway, PHONE)
    window.context.add_init_script(speaking(language))
    page, operator = window.page, window.operator
    reader, album = Reader(window, language), Album(window, f"phone-{direction}")

    invite = operator.invite()
    page.goto(invite["url"])
    page.locator("#device-name").fill("Ada's phone")
    assert page.evaluate("getComputedStyle(document.body).direction") == direction
    reader.look("pair")
    page.locator("form button.primary").click()
    operator.confirm(invite["invite_id"], window.digits())
    expect(page).to_have_url(f"{window.origin}/chat/new")
    reader.look("chat-new")
    page.locator("textarea").fill("hello")
    page.keyboard.press("Control+Enter")
    expect(window.answers).to_have_count(1)
    page.locator("textarea").fill("!note buy milk")
    page.keyboard.press("Control+Enter")
    expect(window.asked).to_be_visible()
    reader.look("chat")
    album.add("chat", has_known_colours=True)
    window.asked.click()
    expect(page.locator("details").first).to_be_visible()
    for summary in page.locator("summary").all():
        summary.click()
    reader.look("approval")
    album.add("approval", has_known_colours=True)
    operator.request("POST", "/api/v1/notifications", json={"title": "Dinner", "link": "/approvals"})
    for path in (
        "/",
        "/approvals",
        "/search",
        "/notifications",
        "/notifications/settings",
        "/memos",
        "/device",
        "/certificate",
    ):
        window.open(path)
        expect(page.locator("h1:visible").first).to_be_visible()
        if path == "/notifications/settings":
            expect(page.locator("#rules")).to_be_visible()
        if path == "/certificate":
            expect(page.locator(".print")).to_be_visible()
        reader.look(path)
        album.add((path.replace("/", "-") if path != "/" else "chats").lstrip("-"), has_known_colours=True)
    assert reader.found == {}
    assert album.found == {}


def test_german_follows_the_browser_and_english_can_be_chosen(
    shared_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    window = new_window(shared_gateway, PHONE, locale="de-AT")
    page = window.page
    invite = window.operator.invite()
    page.goto(invite["url"])
    page.get_by_label("Name dieses Geräts").fill("Telefon")
    window.button("Koppeln").click()
    window.operator.confirm(invite["invite_id"], window.digits())
    expect(page.get_by_label("Nachricht")).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "de"
    window.open("/device")
    window.heading("Dieses Gerät")
    months = "Januar|Jänner|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember"
    window.sees(re.compile(rf"\d+\. ({months}) \d{{4}}"))
    page.get_by_label("Sprache").select_option("English")
    window.heading("This device")
    assert page.evaluate("document.documentElement.lang") == "en"
    page.reload()
    page.get_by_label("Language").select_option("As the browser")
    window.heading("Dieses Gerät")
