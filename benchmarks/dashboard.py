"""P13: the dashboard with 5,000 devices: the list's first page over HTTP, and until its first row is on the screen."""

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks import seed
from benchmarks.rig import Figure, median
from entobot.web.authentication import SESSION_COOKIE
from tests.browser.conftest import FLAGS, NAMES
from tests.browser.window import ask
from tests.support.browser import Browser
from tests.support.operator import Operator
from tests.support.process import ROOMY, GatewayProcess

PEOPLE, DEVICES_EACH = 50, 100
FIRST_ROW = """async () => {
  const began = performance.now();
  document.querySelector('nav a[href="/admin/devices"]').click();
  while (document.querySelector("tbody tr") === null) await new Promise((resolve) => requestAnimationFrame(resolve));
  await new Promise((resolve) => requestAnimationFrame(resolve));
  return performance.now() - began;
}"""
ROUNDS = 7
TARGET_MS = 300
LISTS = {
    "newest": "/api/v1/devices?limit=50",
    "by name": "/api/v1/devices?limit=50&sort=name",
    "searched": "/api/v1/devices?limit=50&q=ben",
    "never seen": "/api/v1/devices?limit=50&never_seen=true",
}


def figures() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="entobot-bench-") as folder:
        gateway = GatewayProcess(Path(folder, "home"), environment=ROOMY, host="127.0.0.1")
        gateway.origin = gateway.environment["ENTOBOT_GATEWAY__PUBLIC_URL"] = f"https://localhost:{gateway.port}"
        seed.paired(gateway, PEOPLE, DEVICES_EACH, has_tokens=False)
        gateway.start()
        try:
            return _measured(gateway)
        finally:
            gateway.close()


def _measured(gateway: GatewayProcess) -> list[Figure]:
    browser = Browser(gateway)
    operator = Operator(gateway)
    owner = operator.local.request("GET", "/api/v1/me")["user_id"]
    browser.follow(str(operator.local.request("POST", f"/api/v1/users/{owner}/sign-in-link")["url"]))
    total = browser.request("GET", LISTS["newest"])["total"]
    found = [
        _figure(f"{total:,} devices, first page of the list: {what}", lambda path=path: _ms(browser, path))
        for what, path in LISTS.items()
    ]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=next(filter(None, map(shutil.which, NAMES))), args=[*FLAGS, "--ignore-certificate-errors"]
        )
        context = chromium.new_context()
        cookie = browser.cookie or ""
        context.add_cookies([{"name": SESSION_COOKIE, "value": cookie, "url": gateway.origin, "secure": True}])
        page = context.new_page()
        page.goto(f"{gateway.origin}/admin/about")
        page.get_by_role("navigation").wait_for()
        found.append(_figure(f"{total:,} devices, from the click to the first row", lambda: _until_row(page)))
        chromium.close()
    return found


def _figure(what: str, measure: Callable[[], float]) -> Figure:
    took = [measure() for _ in range(ROUNDS)]
    middle = median(took)
    return Figure("P13", what, f"≤ {TARGET_MS} ms", f"{middle:.0f} ms (first {took[0]:.0f})", middle <= TARGET_MS)


def _ms(browser: Browser, path: str) -> float:
    began = time.perf_counter()
    browser.request("GET", path)
    return (time.perf_counter() - began) * 1000


def _until_row(page: Page) -> float:
    """Between two of the dashboard's pages, as a person goes; by the clock of the page, up to the frame that shows it."""
    page.get_by_role("link", name="About").click()
    page.get_by_role("heading", name="About").wait_for()
    return float(ask(page, FIRST_ROW))
