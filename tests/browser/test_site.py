"""The documentation site in a browser: both themes, phone and desktop, its search, and no other host."""

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page, expect
from tools import site as site_tool

from tests.browser.test_pages import ARTIFACTS, IN_THEME, THEMES
from tests.browser.window import DESKTOP, PHONE, Size, ask

LOOKED_AT = (
    "",
    "start/",
    "start/dashboard/",
    "how-to/back-up/",
    "operate/walk/",
    "secure/hardening/",
    "reference/errors/",
)
WIDER_THAN_THE_SCREEN = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a web server that knows only files serves the site."""
    folder = tmp_path_factory.mktemp("documentation") / "site"
    site_tool.build(folder)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
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
    """What axe finds in each theme, which is the system's when a reader comes for the first time."""
    found: dict[str, Any] = {}
    for theme in THEMES:
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        page.goto(url)
        page.evaluate("localStorage.clear()")
        page.reload()
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert not page.evaluate(WIDER_THAN_THE_SCREEN), url
        page.evaluate(AXE_SCRIPT)
        page.screenshot(path=ARTIFACTS / f"{name.replace('SCHEME', theme)}.png")
        violations = ask(page, "(options) => axe.run(options).then((found) => found.violations)", IN_THEME[theme])
        if violations:
            found[f"{name} {theme}"] = [
                f"{one['id']}: {node['html'][:160]}" for one in violations for node in one["nodes"]
            ]
    return found


@pytest.mark.parametrize(("name", "size"), [("phone", PHONE), ("desktop", DESKTOP)])
def test_pages_are_accessible_in_both_themes_and_inside_their_width(reader: Reader, address: str, name: str) -> None:
    ARTIFACTS.mkdir(exist_ok=True)
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
    reader.page.screenshot(path=ARTIFACTS / "desktop-site-search.png")


@pytest.mark.parametrize("size", [DESKTOP])
def test_the_reader_chooses_the_theme(reader: Reader, address: str) -> None:
    reader.page.emulate_media(color_scheme="light")
    reader.page.goto(address)
    body = reader.page.locator("body")
    expect(body).to_have_attribute("data-md-color-scheme", "default")
    reader.page.get_by_title("Dark").locator("visible=true").first.click()
    expect(body).to_have_attribute("data-md-color-scheme", "slate")


@pytest.mark.parametrize("size", [DESKTOP])
def test_no_page_asks_another_host_for_anything(reader: Reader, address: str) -> None:
    reader.page.goto(address)
    links = reader.page.locator("nav a[href]").evaluate_all(
        "(all) => [...new Set(all.map((one) => one.href.split('#')[0]))]"
    )
    assert len(links) > 50
    for link in links:
        reader.page.goto(link)
