"""Updates in the dashboard: whose releases are taken, a release, and how far its roll-out is."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import NewWindow, make_gateway
from tests.browser.test_admin_pages import signed_in
from tests.browser.test_pages import Album
from tests.browser.window import DESKTOP, PHONE, Size
from tests.support.board import Board, mqtt_environment
from tests.support.process import GatewayProcess
from tests.support.thing import Thing

TYPE = 'name = "sensor"\n[readings.warmth]\nkind = "number"\n'


@pytest.fixture
def home(tmp_path: Path, tls_folder: Path) -> Iterator[GatewayProcess]:
    gateway = make_gateway(tmp_path, tls_folder, is_named=True)
    gateway.environment.update(mqtt_environment())
    gateway.start()
    (tmp_path / "sensor.toml").write_text(TYPE)
    assert gateway.cli("things", "types", "add", str(tmp_path / "sensor.toml")).returncode == 0
    yield gateway
    gateway.close()


def board_of(gateway: GatewayProcess, name: str) -> Board:
    thing = Thing.make(gateway, name)
    gateway.ask("things", "set-type", thing.device_id, "sensor")
    board = Board(gateway, thing).opened()
    board.subscribe(f"{board.root}/update")
    runs(board, "1.0.0")
    return board


def runs(board: Board, version: str) -> None:
    assert (
        board.publish(f"{board.root}/status", json.dumps({"status": "online", "firmware": version}), retain=True) == 0
    )


def signed(gateway: GatewayProcess, folder: Path) -> tuple[str, Path]:
    """A release key's public half, and a release."""
    (folder / "next").mkdir()
    (folder / "next" / "main.py").write_text("print(2)\n")
    key, release = folder / "release.key", folder / "sensor-1.1.0.release"
    public = gateway.cli("updates", "keygen", str(key)).stdout.strip()
    options = ("--type", "sensor", "--version", "1.1.0", "--key", str(key), "--out", str(release))
    assert gateway.cli("updates", "sign", str(folder / "next"), *options).returncode == 0
    return public, release


@pytest.mark.parametrize(("name", "size"), [("phone", PHONE), ("desktop", DESKTOP)])
def test_a_release_is_added_and_its_roll_out_followed_paused_and_ended(
    home: GatewayProcess, tmp_path: Path, new_window: NewWindow, name: str, size: Size
) -> None:
    public, release = signed(home, tmp_path)
    good, bad = board_of(home, "Attic"), board_of(home, "Cellar")
    window = signed_in(new_window, home, size=size)
    page, album = window.page, Album(window, name)
    window.open("/admin/updates")
    window.sees("No roll-outs yet.")
    page.get_by_label("A signed release").set_input_files(release)
    window.button("Add it").click()
    window.sees("not registered")
    page.get_by_label("Public key").fill(public)
    page.get_by_label("Name", exact=True).fill("Workshop")
    window.button("Add the key").click()
    window.button("Remove Workshop").wait_for()
    page.get_by_label("A signed release").set_input_files(release)
    window.button("Add it").click()
    window.button("Remove sensor 1.1.0").wait_for()
    page.get_by_label("Stages, in percent of the boards").fill("5, all")
    window.button("Start").click()
    window.sees("Percentages from 1 to 100, separated by commas.")
    page.get_by_label("Stages, in percent of the boards").fill("100")
    page.get_by_label("Minutes online until a board is healthy").fill("0")
    window.button("Start").click()
    window.heading("sensor 1.1.0")
    offer = json.loads(bad.heard().payload)
    runs(good, "1.1.0")
    expect(page.get_by_role("row", name="Attic")).to_contain_text("healthy")
    said = {"release_id": offer["release_id"], "state": "failed", "reason": "no room"}
    bad.publish(f"{bad.root}/event", json.dumps({"event": "update", "data": said}))
    expect(page.get_by_role("row", name="Cellar")).to_contain_text("no room")
    window.button("Resume").wait_for()
    window.sees("Healthy: 1 of 2, 1 failed")
    album.add("admin-update")
    window.button("Abort").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Abort").click()
    expect(page.get_by_text("aborted", exact=True)).to_be_visible()
    window.link("All updates").click()
    window.sees("1 of 2")
    album.add("admin-updates")
    window.button("Remove sensor 1.1.0").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Remove").click()
    window.sees("No releases yet.")
    assert album.found == {}
