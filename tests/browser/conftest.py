"""Browser stories: a real gateway, its built pages, and a Chromium that trusts that gateway's key and no other."""

import base64
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Browser, Playwright, sync_playwright

from entobot.core.clock import SystemClock
from entobot.core.secrets import SystemEntropy
from entobot.web.certificates import ensure_local_tls, this_machine
from entobot.web.pages import BUILT_PAGES
from tests.browser.terminal import Terminal
from tests.browser.window import PHONE, Size, Window
from tests.support.furnished import furnish
from tests.support.process import GatewayProcess

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ("chromium", "chromium-browser", "google-chrome")

NewWindow = Callable[..., Window]
NewTerminal = Callable[..., Terminal]


@pytest.fixture(scope="package", autouse=True)
def pages() -> None:
    assert (BUILT_PAGES / "index.html").is_file(), "The pages are not built. Run: .venv/bin/python web/build.py"


@pytest.fixture(scope="package")
def chromium() -> str:
    found = next((path for path in map(shutil.which, NAMES) if path), None)
    if found is None:
        pytest.skip("There is no Chromium here. Install the package 'chromium' to run the browser stories.")
    return found


@pytest.fixture(scope="package")
def tls_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One key for every gateway of these stories, so that one browser can trust exactly that key."""
    folder = tmp_path_factory.mktemp("authority") / "tls"
    ensure_local_tls(folder, this_machine(), SystemClock().now_ms(), SystemEntropy())
    return folder


@pytest.fixture(scope="package")
def trust(tls_folder: Path) -> str:
    from cryptography import x509

    leaf = x509.load_pem_x509_certificate((tls_folder / "leaf.crt").read_bytes())
    spki = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = base64.b64encode(hashlib.sha256(spki).digest()).decode()
    return f"--ignore-certificate-errors-spki-list={digest}"


@pytest.fixture(scope="package")
def playwright(chromium: str) -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="package")
def launch(playwright: Playwright, chromium: str, trust: str) -> Callable[..., Browser]:
    """A Chromium of its own; further flags are given as arguments."""
    return lambda *flags: playwright.chromium.launch(executable_path=chromium, args=[*FLAGS, trust, *flags])


@pytest.fixture(scope="package")
def browser(launch: Callable[..., Browser]) -> Iterator[Browser]:
    running = launch()
    yield running
    running.close()


def make_gateway(folder: Path, tls_folder: Path, *, is_named: bool = False, **options: Any) -> GatewayProcess:
    """Not started yet. `is_named`: under a name, since browsers make no passkeys for addresses."""
    home = folder / "home"
    furnish(home)
    shutil.copytree(tls_folder, home / "tls")
    process = GatewayProcess(home, environment={"ENTOBOT_GATEWAY__NAME": "Kitchen"}, **options)
    if is_named:
        process.origin = process.environment["ENTOBOT_GATEWAY__PUBLIC_URL"] = f"https://localhost:{process.port}"
    return process


@pytest.fixture
def idle_gateway(tmp_path: Path, tls_folder: Path) -> Iterator[GatewayProcess]:
    """A data folder and an address; nothing runs there yet."""
    process = make_gateway(tmp_path, tls_folder)
    yield process
    process.close()


@pytest.fixture
def gateway(idle_gateway: GatewayProcess) -> GatewayProcess:
    return idle_gateway.start()


@pytest.fixture(scope="package")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory, tls_folder: Path) -> Iterator[GatewayProcess]:
    """For stories that do not disturb one another."""
    process = make_gateway(tmp_path_factory.mktemp("shared"), tls_folder).start()
    yield process
    process.close()


@pytest.fixture
def new_window(browser: Browser) -> Iterator[NewWindow]:
    """Fresh profiles. What they must never do is checked when the story ends."""
    windows: list[Window] = []

    def make(gateway: GatewayProcess, size: Size = PHONE, **options: Any) -> Window:
        windows.append(Window(options.pop("browser", browser), gateway, size, **options))
        return windows[-1]

    yield make
    for window in windows:
        window.close()


@pytest.fixture
def new_terminal() -> Iterator[NewTerminal]:
    terminals: list[Terminal] = []

    def make(gateway: GatewayProcess, *arguments: str) -> Terminal:
        terminals.append(Terminal(gateway.environment, *arguments))
        return terminals[-1]

    yield make
    for terminal in terminals:
        terminal.close()
