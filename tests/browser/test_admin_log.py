"""A long log in the dashboard: found in pages, and verified with news of how far that is."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from entobot.app.offline import open_offline
from entobot.audit.events import AuditEvent
from entobot.config import StorageSettings
from entobot.core.clock import SystemClock
from entobot.core.secrets import SystemEntropy
from entobot.home import Home
from entobot.storage.database import Transaction
from tests.browser.conftest import NewWindow, make_gateway
from tests.browser.test_admin_pages import signed_in
from tests.browser.window import ask
from tests.support.postgres import in_thread
from tests.support.process import GatewayProcess

ENTRIES = 40_000
UNIT = 2_000
WATCHED = """() => {
  window.seen = [];
  const look = () => { const bar = document.querySelector('main progress'); if (bar) window.seen.push([bar.value, bar.max]); };
  new MutationObserver(look).observe(document.body, { attributes: true, childList: true, subtree: true });
}"""


async def lengthen(home: Path) -> None:
    clock = SystemClock()
    offline = open_offline(Home(home), StorageSettings(), clock, SystemEntropy())

    def unit(tx: Transaction) -> None:
        for number in range(UNIT):
            offline.audit.record(tx, AuditEvent.DEVICE_RENAMED, now_ms=clock.now_ms(), facts={"number": number})

    await offline.database.start()
    for _ in range(ENTRIES // UNIT):
        await offline.database.write(unit)
    await offline.database.stop()


@pytest.fixture
def gateway(tmp_path: Path, tls_folder: Path) -> GatewayProcess:
    process = make_gateway(tmp_path, tls_folder, is_named=True)
    process.start()
    process.stop()
    in_thread(lambda: lengthen(process.home))
    return process


def test_a_long_log_is_shown_in_pages_and_its_verification_says_how_far_it_is(
    gateway: GatewayProcess, new_window: NewWindow
) -> None:
    try:
        window = signed_in(new_window, gateway.start())
        window.page.goto(f"{window.origin}/admin/audit?event=device.renamed")
        window.sees("50 shown")
        window.button("Show more").click()
        window.sees("100 shown")
        ask(window.page, WATCHED)
        window.button("Verify the chain").click()
        expect(window.page.get_by_role("status").filter(has_text="the chain is intact")).to_be_visible()
        seen = window.page.evaluate("window.seen")
        checked = [value for value, _ in seen]
        assert checked == sorted(checked)
        assert any(0 < value < total for value, total in seen), "somewhere on the way"
        assert max(total for _, total in seen) > ENTRIES
    finally:
        gateway.close()
