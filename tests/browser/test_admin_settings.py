"""Settings and model providers on the dashboard: changed, reviewed, refused at the field, tried; in both themes."""

import asyncio
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import NewWindow, make_gateway
from tests.browser.test_admin_pages import signed_in
from tests.browser.test_pages import Album
from tests.browser.window import Window
from tests.support.fake_openai import KEY, FakeOpenAI, Text
from tests.support.process import GatewayProcess


@pytest.fixture
def own_gateway(tmp_path: Path, tls_folder: Path) -> Iterator[GatewayProcess]:
    process = make_gateway(tmp_path, tls_folder, is_named=True)
    process.environment["OPENAI_BASE_URL"] = ""
    process.start()
    yield process
    process.close()


@pytest.fixture
def model_server() -> Iterator[FakeOpenAI]:
    """On a loop of its own: the browser's calls block."""
    server, loop, ready, over = FakeOpenAI(Text(["ok"])), asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with server:
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait()
    yield server
    loop.call_soon_threadsafe(over.set)
    thread.join()
    loop.close()


def opened(window: Window, path: str, heading: str) -> None:
    window.page.goto(f"{window.origin}/admin/{path}")
    window.heading(heading)
    window.page.wait_for_load_state("networkidle")


def test_settings_are_searched_changed_reviewed_and_taken_back(
    own_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    window = signed_in(new_window, own_gateway)
    opened(window, "settings", "Settings")
    page = window.page
    page.get_by_label("Search settings").fill("heartbeat")
    expect(page.locator(".field input:not([type=search])")).to_have_count(1)
    page.get_by_label("Search settings").fill("")
    expect(page.get_by_label("Name", exact=True)).to_have_count(0)
    window.sees(re.compile("ENTOBOT_GATEWAY__NAME, which wins"))
    page.get_by_label("Heartbeat (seconds)").fill("1")
    page.get_by_label("Keep events").fill("9000")
    window.sees("2 changes are not saved")
    window.button("Review changes").click()
    expect(page.locator(".field .problem")).to_have_text("Heartbeat is at least 5.")
    page.get_by_label("Heartbeat (seconds)").fill("20")
    expect(page.locator(".field .problem")).to_have_count(0)
    window.button("Review changes").click()
    window.heading("Save these changes?")
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("li")).to_have_count(2)
    expect(dialog).to_contain_text("10000 → 9000")
    dialog.get_by_role("button", name="Save").click()
    window.sees("2 changes are saved.")
    window.sees("These changes wait for a restart of the gateway: gateway.heartbeat.")
    history = page.get_by_role("region", name="Who changed what")
    expect(history.locator("li")).to_have_count(2)
    expect(history).to_contain_text("10000 → 9000")
    window.button("Take back what is stored of Keep events").click()
    window.button("Review changes").click()
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    window.sees("1 change is saved.")
    expect(page.get_by_label("Keep events", exact=True)).to_have_value("10000")


def test_a_model_server_gets_a_key_is_tried_and_answers(
    own_gateway: GatewayProcess, new_window: NewWindow, model_server: FakeOpenAI
) -> None:
    window = signed_in(new_window, own_gateway)
    opened(window, "agents", "Agents and models")
    window.sees("The built-in echo agent.")
    card = window.page.get_by_role("form", name="A server of your own")
    card.get_by_label("Address").fill("http://169.254.169.254/v1")
    card.get_by_role("button", name="Save").click()
    window.sees(re.compile("link-local or metadata address"))
    card.get_by_label("Address").fill(model_server.base_url)
    card.get_by_label("API key").fill(KEY)
    card.get_by_role("button", name="Save").click()
    expect(card).to_contain_text("Answers now")
    expect(card).to_contain_text("Key stored")
    expect(card.get_by_label("API key")).to_have_value("")
    card.get_by_role("button", name="Try it").click()
    expect(card).to_contain_text(re.compile(r"fake-1 answered in [\d,]+ ms"))
    assert KEY not in window.page.content()
    card.get_by_role("button", name="Remove key").click()
    expect(card).to_contain_text("No key")
    card.get_by_role("button", name="Try it").click()
    expect(card).to_contain_text("refused the key")
    window.page.get_by_label("Temperature (0 to 2)").fill("0.5")
    window.page.get_by_role("main").get_by_role("button", name="Save", exact=True).first.click()
    window.sees("Saved. It holds for the next answer.")


def test_settings_and_agents_are_accessible_in_both_themes(own_gateway: GatewayProcess, new_window: NewWindow) -> None:
    window = signed_in(new_window, own_gateway)
    album, page = Album(window), window.page
    window.turn_to("/admin/agents")
    window.heading("Agents and models")
    album.add("admin-agents")
    window.turn_to("/admin/settings")
    page.get_by_label("Heartbeat (seconds)").fill("20")
    page.get_by_label("Level", exact=True).select_option("debug")
    album.add("admin-settings")
    window.button("Review changes").click()
    window.heading("Save these changes?")
    album.add("admin-settings-review")
    assert album.found == {}
