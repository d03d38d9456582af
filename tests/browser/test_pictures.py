"""The pictures of the documentation. `make pictures` takes them anew; otherwise they are compared with the pages.

Pixels differ from machine to machine. What is compared is what a reader looks for: the headings, buttons, fields and
columns that stand in the picture, kept beside this file when its picture was taken.
"""

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import NewWindow
from tests.browser.test_admin_pages import gateway_with_devices, signed_in
from tests.browser.window import DESKTOP, PHONE, Window, ask
from tests.support.process import ROOT, GatewayProcess

__all__ = ["gateway_with_devices"]

IMAGES = ROOT / "docs" / "images"
OUTLINES = Path(__file__).with_name("pictures")
TAKES_THEM = bool(os.environ.get("TAKE_PICTURES"))
_COMPLETE = r"""
async (%s) => {
  const outline = () => [...document.querySelectorAll("h1, h2, h3, button, label, th[scope=col], nav a")]
    .filter((part) => part.checkVisibility() && part.getBoundingClientRect().top < %s)
    .map((part) => `${/^H/.test(part.tagName) ? "heading" : part.tagName.toLowerCase()} ${part.getAttribute("aria-label") ?? part.innerText}`)
    .map((line) => line.replace(/\d+/g, "0").replace(/\b0:0 PM/g, "0:0 AM").replace(/\s+/g, " ").trim())
    .map((line) => line.replace(/^(a .*?) 0.*/, "$1"));
  let before = "", same = 0, now;
  do {
    await new Promise((resolve) => setTimeout(resolve, 100));
    now = outline();
    same = JSON.stringify(now) === before ? same + 1 : 0;
    before = JSON.stringify(now);
  } while (!(%s same > %d));
  return now;
}
"""
"""A link's number is left out: it stands there when there is something to count. The outline once it is the one that is wanted, or has not changed for a while: pages load in parts."""


def pictured(window: Window, name: str, below: str = "innerHeight") -> None:
    """Take the picture, or fail when the page is another than when it was taken. `below`: down to where it counts."""
    page = window.page
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    page.wait_for_load_state()
    kept = OUTLINES / f"{name}.txt"
    if TAKES_THEM:
        OUTLINES.mkdir(exist_ok=True)
        kept.write_text("\n".join(ask(page, _COMPLETE % ("", below, "", 30))) + "\n", "utf-8")
        page.screenshot(path=IMAGES / f"{name}.png")
        return
    wanted = kept.read_text("utf-8").splitlines()
    found = ask(page, _COMPLETE % ("wanted", below, "JSON.stringify(now) === JSON.stringify(wanted) ||", 300), wanted)
    assert found == wanted, "the page has changed: `make pictures`, and look at docs/images"


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
        # What the posture finds depends on the machine, and moves what stands below it.
        pictured(window, f"admin-{name}", "Infinity" if name == "overview" else "innerHeight")


@pytest.mark.parametrize("image", sorted(IMAGES.glob("*.png")), ids=lambda path: path.stem)
def test_every_picture_is_taken_here_and_shown_somewhere(image: Path) -> None:
    assert (OUTLINES / f"{image.stem}.txt").is_file()
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if f"images/{image.name}" in page.read_text("utf-8")] != []
