"""The pictures of the documentation. `make pictures` takes them anew; otherwise they are compared with the pages.

Pixels differ from machine to machine. What is compared is what a reader looks for: the headings, buttons, fields and
columns that stand in the picture, kept beside this file when its picture was taken.
"""

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import NewWindow
from tests.browser.test_admin_pages import gateway_with_devices, signed_in
from tests.browser.window import DESKTOP, PHONE, Window
from tests.support.process import ROOT, GatewayProcess

__all__ = ["gateway_with_devices"]

IMAGES = ROOT / "docs" / "images"
OUTLINES = Path(__file__).with_name("pictures")
TAKES_THEM = bool(os.environ.get("TAKE_PICTURES"))
_OUTLINE = """
[...document.querySelectorAll("h1, h2, h3, button, label, th[scope=col], nav a")]
  .filter((part) => part.checkVisibility() && part.getBoundingClientRect().top < innerHeight)
  .map((part) => `${/^H/.test(part.tagName) ? "heading" : part.tagName.toLowerCase()} ${(part.getAttribute("aria-label") ?? part.innerText).trim()}`)
"""


def pictured(window: Window, name: str) -> None:
    """Take the picture, or fail when the page is another than when it was taken."""
    page = window.page
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    page.wait_for_load_state()
    lines = [re.sub(r"\d+", "0", " ".join(line.split())) for line in page.evaluate(_OUTLINE)]
    outline = "".join(f"{line}\n" for line in lines)
    kept = OUTLINES / f"{name}.txt"
    if TAKES_THEM:
        OUTLINES.mkdir(exist_ok=True)
        page.screenshot(path=IMAGES / f"{name}.png")
        kept.write_text(outline, "utf-8")
    assert kept.read_text("utf-8") == outline, "the page has changed: `make pictures`, and look at docs/images"


def test_the_pictures_of_the_phone(gateway: GatewayProcess, new_window: NewWindow) -> None:
    window = new_window(gateway, PHONE)
    invite = window.operator.invite()
    window.page.goto(invite["url"])
    window.sees("This invitation is good until")
    window.page.get_by_label("Name of this device").fill("Ada's phone")
    window.page.get_by_label("Name of this device").blur()
    pictured(window, "pair")
    window.button("Pair").click()
    window.operator.confirm(invite["invite_id"], window.digits())
    window.is_in_a_new_chat()
    window.say("Good morning!")
    window.write("!note buy milk")
    expect(window.asked).to_be_visible()
    window.page.get_by_label("Message").blur()
    pictured(window, "chat")
    window.review()
    window.page.get_by_text("Exact text that is signed").click()
    pictured(window, "approval")


def test_the_pictures_of_the_dashboard(gateway_with_devices: GatewayProcess, new_window: NewWindow) -> None:
    window = signed_in(new_window, gateway_with_devices, size=DESKTOP)
    pictured(window, "admin-first-steps")
    for name, path, heading in (
        ("overview", "", "Overview"),
        ("devices", "/devices", "Devices"),
        ("audit", "/audit", "Audit log"),
        ("settings", "/settings", "Settings"),
    ):
        window.page.goto(f"{window.origin}/admin{path}")
        window.heading(heading)
        window.page.wait_for_load_state("networkidle")
        pictured(window, f"admin-{name}")


@pytest.mark.parametrize("image", sorted(IMAGES.glob("*.png")), ids=lambda path: path.stem)
def test_every_picture_is_taken_here_and_shown_somewhere(image: Path) -> None:
    assert (OUTLINES / f"{image.stem}.txt").is_file()
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if f"images/{image.name}" in page.read_text("utf-8")] != []
