"""Every page in both themes, on a phone and on a desk: accessible and inside its width.

With TAKE_PICTURES=1 every page that a story looks at is pictured in tests/artifacts.
"""

import os
import re
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, expect

from tests.browser.conftest import NewWindow
from tests.browser.window import DESKTOP, PHONE, Size, Window, ask
from tests.support.process import ROOT, GatewayProcess

ARTIFACTS = ROOT / "tests" / "artifacts"
ARE_TAKEN = "TAKE_PICTURES" in os.environ
COLOURS = {"runOnly": {"type": "rule", "values": ["color-contrast"]}, "resultTypes": ["violations"]}
STRUCTURE = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
    "rules": {"color-contrast": {"enabled": False}},
    "resultTypes": ["violations"],
}
"""A theme changes colours and nothing else: these rules are tried in one."""
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
ALIKE = ["tbody tr:nth-child(n+6)", "figure:nth-of-type(n+4)", ".field:nth-child(n+5)"]
"""Have the colours of those before them, and measuring colours takes longer with the square of what is measured."""
SCAN = """async ([structure, colours, alike]) => {
  const shown = document.querySelector("dialog[open]") ?? document;
  const rest = alike.filter((one) => document.querySelector(one)).map((one) => [one]);
  const sample = shown === document && rest.length ? { exclude: rest } : shown;
  const found = structure ? (await axe.run(shown, structure)).violations : [];
  return colours ? [...found, ...(await axe.run(sample, colours)).violations] : found;
}"""
"""A dialog is looked at alone: the page behind it was looked at before."""
TOO_WIDE = """
[...document.querySelectorAll("body *")]
  .filter((part) => part.checkVisibility() && !part.closest("pre, table, .hidden-visually, .skip"))
  .filter((part) => part.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map((part) => part.outerHTML.slice(0, 120))
"""
TOO_SMALL = """
[...document.querySelectorAll("button, a, input:not([type=radio]), textarea, summary")]
  .filter((part) => part.checkVisibility() && !part.closest("p, .markdown, .skip"))
  .filter((part) => (part.closest("label") ?? part).getBoundingClientRect().height < 44)
  .map((part) => part.outerHTML.slice(0, 120))
"""
SETTLED = """async () => {
  const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
  const running = () => document.getAnimations().filter((one) => one instanceof CSSTransition);
  await frame();
  do await Promise.allSettled(running().map((one) => one.finished).concat(frame())); while (running().length);
}"""
MOVES = """
[...document.querySelectorAll("body *")]
  .filter((part) => getComputedStyle(part).transitionDuration.split(", ").some((one) => parseFloat(one)))
  .map((part) => part.outerHTML.slice(0, 120))
"""
"""For somebody who asked for less motion. A moment for everything is worse than none: what inherits a colour begins to
change when that from which it has it is done, one after another down the page.
"""
SHAPES = {"too wide": TOO_WIDE, "too small": TOO_SMALL, "moves": MOVES}
# The answer to a question that shows what the pages do with Markdown.
ANSWER = """Three things for **today**:

- water the tomatoes
- call `the plumber` back
- [the market](https://market.example/) closes at six
"""


def violations(page: Page, theme: str, *, has_known_colours: bool = False) -> list[str]:
    """What axe finds in what is shown; its script is loaded."""
    asked = [STRUCTURE if theme == THEMES[0] else None, None if has_known_colours else COLOURS, ALIKE]
    return [
        f"{one['id']}: {node['html'][:200]}: {node['failureSummary']}"
        for one in ask(page, SCAN, asked)
        for node in one["nodes"]
    ]


class Album:
    """Looks at a page in both themes, on a phone and on a desk: axe, width, sizes of targets, a picture.

    With a `size`, as the window is; that is its name.
    """

    def __init__(self, window: Window, size: str | None = None) -> None:
        self._window = window
        self._own = window.page.viewport_size
        self._sizes = {size: None} if size else {"phone": PHONE["viewport"], "desktop": DESKTOP["viewport"]}
        self.found: dict[str, Any] = {}

    def add(self, name: str, *, is_picture: bool = True, has_known_colours: bool = False) -> None:
        """`has_known_colours`: this page was looked at elsewhere, with other words in it."""
        page = self._window.page
        page.wait_for_load_state()
        if not page.evaluate("'axe' in window"):
            page.evaluate(AXE_SCRIPT)
        for theme in THEMES[: 1 if has_known_colours else None]:
            page.emulate_media(color_scheme=theme, reduced_motion="reduce")
            for size, viewport in self._sizes.items():
                if viewport:
                    page.set_viewport_size(viewport)  # pyright: ignore[reportArgumentType]  a dictionary of the same keys
                ask(page, SETTLED)
                if is_picture and ARE_TAKEN:
                    ARTIFACTS.mkdir(exist_ok=True)
                    page.screenshot(path=ARTIFACTS / f"{size}-{theme}-{name}.png")
                if found := violations(page, theme, has_known_colours=has_known_colours):
                    self.found[f"{name} {size} {theme}"] = found
                for what, query in SHAPES.items() if theme == THEMES[0] else ():
                    if parts := page.evaluate(query):
                        self.found[f"{name} {size} {what}"] = parts
        if page.viewport_size != self._own:
            page.set_viewport_size(self._own)  # pyright: ignore[reportArgumentType]  what it was


@pytest.mark.parametrize(("name", "size"), [("phone", PHONE), ("desktop", DESKTOP)])
def test_every_page_is_accessible_in_both_themes(
    gateway: GatewayProcess, new_window: NewWindow, name: str, size: Size
) -> None:
    window = new_window(gateway, size)
    window.may_lose_network = True
    album = Album(window, name)
    page, operator = window.page, window.operator

    window.open("/")
    window.heading("Type the pairing code")
    album.add("pair-code")
    page.goto(operator.invite(scopes=["chat"])["url"].partition("&s=")[0])
    window.sees("The link is cut short.")
    album.add("pair-problem")
    page.goto("about:blank")
    invite = operator.invite()
    page.goto(invite["url"])
    window.sees("This invitation is good until")
    page.get_by_label("Name of this device").fill("Ada's phone")
    page.get_by_label("Name of this device").blur()
    album.add("pair")
    window.button("Pair").click()
    digits = window.digits()
    album.add("pair-digits")
    operator.confirm(invite["invite_id"], digits)
    window.is_in_a_new_chat()
    album.add("chat-new")
    window.open("/")
    window.sees("No conversations yet")
    album.add("chats-empty")
    window.open("/approvals")
    window.sees("Nothing to decide")
    album.add("approvals-empty")

    window.open("/chat/new")
    window.say("Good morning!")
    window.write("!note buy milk")
    expect(window.asked).to_be_visible()
    page.get_by_label("Message").blur()
    album.add("chat")
    window.button("Rename conversation").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    album.add("chat-rename")
    page.keyboard.press("Escape")
    window.open("/approvals")
    expect(window.link(re.compile("buy milk"))).to_be_visible()
    album.add("approvals")
    window.link(re.compile("buy milk")).click()
    window.heading("What will be done")
    page.get_by_text("Exact text that is signed").click()
    album.add("approval")
    window.button("Approve").click()
    window.sees("Approved. The agent goes on.")
    album.add("approval-done")
    window.open("/")
    expect(window.link(re.compile("noted: buy milk"))).to_be_visible()
    album.add("chats")
    window.open("/chat/new")
    window.write(ANSWER)
    expect(window.answers.get_by_role("link", name="the market")).to_be_visible()
    window.heading("Three things for today:")
    album.add("chat-markdown")
    window.open("/")
    window.link("Search").click()
    window.context.set_offline(True)
    window.sees("The search needs the gateway.")
    page.get_by_label("Search your conversations").fill("BUY milk")
    page.keyboard.press("Enter")
    window.context.set_offline(False)
    found = page.locator("main .main, main").get_by_role("link", name=re.compile("Agent: noted: buy milk"))
    expect(found.locator("mark").first).to_have_text("buy milk")
    window.sees("1 conversation")
    album.add("search")
    found.click()
    expect(page.get_by_label("Message")).to_be_visible()
    window.open("/device")
    window.heading("This device")
    window.sees("Live")
    album.add("device")
    window.button("Unpair this device").click()
    expect(page.get_by_role("alertdialog")).to_be_visible()
    album.add("device-unpair")
    window.open("/certificate")
    window.sees("Fingerprint of the authority (SHA-256)")
    window.sees("This browser seems to trust the certificate")
    album.add("certificate")
    window.open("/chat/cnv_01M7YV5ADCGH38D9P7FSVG2HYG")
    window.sees("This conversation is not here")
    album.add("chat-gone")
    window.context.set_offline(True)
    window.sees("You are offline.")
    album.add("offline")
    window.context.set_offline(False)
    operator.change("Ada's phone", "suspend")
    window.open("/")
    window.heading("This device is paused")
    album.add("stop-paused")
    operator.change("Ada's phone", "revoke")
    window.button("Check again").click()
    window.heading("Please pair again")
    album.add("stop-pair-again")
    window.open("/api/docs")
    expect(page.locator(".swagger-ui .info")).to_be_visible()
    assert album.found == {}


def test_the_certificate_page_gives_the_authority_that_doctor_names(
    shared_gateway: GatewayProcess, new_window: NewWindow, tmp_path: Path
) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    window = new_window(shared_gateway)
    window.open("/certificate")
    shown = window.page.locator(".print").inner_text()
    with window.page.expect_download() as download:
        window.link("Download certificate").click()
    path = tmp_path / "ca.crt"
    download.value.save_as(path)
    given = path.read_bytes()
    load = x509.load_pem_x509_certificate if given.startswith(b"-----") else x509.load_der_x509_certificate
    fingerprint = load(given).fingerprint(SHA256()).hex()
    assert shown.replace(":", "").replace(" ", "").lower() == fingerprint
    assert shown in shared_gateway.cli("doctor").stdout


def test_a_violated_policy_is_noticed(shared_gateway: GatewayProcess, new_window: NewWindow) -> None:
    """The stories' own alarm: what must never happen is seen when it does."""
    window = new_window(shared_gateway)
    window.open("/pair")
    window.heading("Pair with Kitchen")
    assert window.problems == []
    window.page.evaluate("try { document.body.insertAdjacentHTML('beforeend', '<b>x</b>') } catch {}")
    window.page.evaluate("fetch('https://elsewhere.example/').catch(() => undefined)")
    window.page.evaluate("setTimeout(() => { throw new Error('broken') })")
    window.page.evaluate("new Promise((resolve) => setTimeout(resolve))")  # the error above has been thrown
    with window.page.expect_console_message(lambda message: message.text == "end"):
        window.page.evaluate("console.error('end')")
    told = "\n".join(window.problems)
    for alarm in ("violates require-trusted-types-for", "https://elsewhere.example/", "script error: ", "end"):
        assert alarm in told
    window.problems.clear()
