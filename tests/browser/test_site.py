"""The documentation site in a browser: both themes, phone and desktop, its search, and no other host."""

import json
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page, expect

from tests.browser.test_pages import ARE_TAKEN, ARTIFACTS, SETTLED, THEMES, violations
from tests.browser.window import DESKTOP, PHONE, Size, ask
from tests.support.site import built_site

__all__ = ["built_site"]
LOOKED_AT = (
    "",
    "start/",
    "start/dashboard/",
    "how-to/back-up/",
    "operate/walk/",
    "secure/hardening/",
    "reference/errors/",
)
SCHEMES = ("default", "slate")
"""What the site calls the two themes."""
WIDER_THAN_THE_SCREEN = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def address(built_site: Path) -> Iterator[str]:
    """Where a web server that knows only files serves the site."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(built_site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


class Reader:
    """A page of a fresh profile, and whatever it asked other hosts for."""

    def __init__(self, browser: Browser, address: str, size: Size) -> None:
        self.context = browser.new_context(**size, reduced_motion="reduce")  # pyright: ignore[reportArgumentType]  a TypedDict of the same keys
        self.elsewhere: list[str] = []
        self.problems: list[str] = []
        self.context.on("request", lambda request: self._asked(request.url, address))
        self.context.on("weberror", lambda error: self.problems.append(str(error.error)))
        self.page: Page = self.context.new_page()

    def _asked(self, url: str, address: str) -> None:
        if not url.startswith((address, "data:", f"blob:{address}")):
            self.elsewhere.append(url)

    def close(self) -> None:
        self.context.close()
        assert (self.elsewhere, self.problems) == ([], [])


@pytest.fixture
def reader(browser: Browser, address: str, size: Size) -> Iterator[Reader]:
    one = Reader(browser, address, size)
    yield one
    one.close()


def pictured(page: Page, url: str, name: str) -> dict[str, Any]:
    """What axe finds in each theme."""
    found: dict[str, Any] = {}
    page.goto(url)
    page.evaluate(AXE_SCRIPT)
    for theme, scheme in zip(THEMES, SCHEMES, strict=True):
        page.evaluate("(scheme) => { document.body.dataset.mdColorScheme = scheme }", scheme)  # as its own button does
        ask(page, SETTLED)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert not page.evaluate(WIDER_THAN_THE_SCREEN), url
        if ARE_TAKEN:
            ARTIFACTS.mkdir(exist_ok=True)
            page.screenshot(path=ARTIFACTS / f"{name.replace('SCHEME', theme)}.png")
        if seen := violations(page, theme):
            found[f"{name} {theme}"] = seen
    return found


@pytest.mark.parametrize(("name", "size"), [("phone", PHONE), ("desktop", DESKTOP)])
def test_pages_are_accessible_in_both_themes_and_inside_their_width(reader: Reader, address: str, name: str) -> None:
    found: dict[str, Any] = {}
    for path in LOOKED_AT:
        found |= pictured(
            reader.page, address + path, f"{name}-SCHEME-site-{path.strip('/').replace('/', '-') or 'home'}"
        )
    assert found == {}, json.dumps(found, indent=1)


@pytest.mark.parametrize("size", [DESKTOP])
def test_the_search_finds_a_setting_without_any_other_host(reader: Reader, address: str) -> None:
    reader.page.goto(address)
    reader.page.keyboard.press("/")
    reader.page.keyboard.type("allowed_networks")
    hit = reader.page.locator("a[href*='behind-a-proxy'], a[href*='hardening'], a[href*='reference/settings']")
    expect(hit.locator("visible=true").first).to_be_visible()


@pytest.mark.parametrize("size", [DESKTOP])
def test_the_theme_is_the_systems_until_the_reader_chooses(reader: Reader, address: str) -> None:
    body = reader.page.locator("body")
    for theme, scheme in reversed(list(zip(THEMES, SCHEMES, strict=True))):
        reader.page.emulate_media(color_scheme=theme)
        reader.page.goto(address)
        reader.page.evaluate("localStorage.clear()")
        reader.page.reload()
        expect(body).to_have_attribute("data-md-color-scheme", scheme)
    reader.page.get_by_title("Dark").locator("visible=true").first.click()
    expect(body).to_have_attribute("data-md-color-scheme", "slate")


class Kinds(HTMLParser):
    """The kinds of elements of a page: names and classes, which is what the site's scripts act upon."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.all: set[tuple[str, str]] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all |= {(tag, one) for one in (dict(attrs).get("class") or "").split() or [""]}


def with_every_kind(site: Path) -> list[str]:
    """Pages that together have in them whatever is in any page."""
    seen: set[tuple[str, str]] = set()
    chosen: list[str] = []
    kinds = {path.relative_to(site).as_posix(): Kinds(path.read_text("utf-8")).all for path in site.rglob("*.html")}
    for path, here in sorted(kinds.items(), key=lambda one: (-len(one[1]), one[0])):
        if here - seen:
            chosen.append(path.removesuffix("index.html"))
        seen |= here
    return chosen


@pytest.mark.parametrize("size", [DESKTOP])
def test_no_page_asks_another_host_for_anything(reader: Reader, address: str, built_site: Path) -> None:
    """By its scripts, that is: tests/test_site.py reads in every page what it loads."""
    chosen = with_every_kind(built_site)
    assert len(chosen) > 3
    for path in chosen:
        reader.page.goto(address + path, wait_until="networkidle")
