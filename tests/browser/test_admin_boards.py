"""Boards in the dashboard: a key that lets them in, what each came in with, what they are and say."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import NewWindow, make_gateway
from tests.browser.test_admin_pages import signed_in
from tests.browser.test_pages import Album
from tests.browser.window import DESKTOP, PHONE, Size, Window
from tests.support.board import Board, mqtt_environment
from tests.support.process import GatewayProcess, free_port
from tests.support.thing import Thing

NOT_AUTHORIZED = 0x87

TYPE = {
    "name": "thermometer",
    "title": "Thermometer",
    "readings": {"temperature": {"kind": "number", "unit": "°C"}},
    "commands": {"calibrate": {"risk": "none"}},
}
BUSY = {"type": "about:blank", "title": "Busy", "status": 503, "code": "draining", "detail": "Not now.", "retry": True}


@pytest.fixture
def gateway(tmp_path: Path, tls_folder: Path) -> Iterator[GatewayProcess]:
    process = make_gateway(tmp_path, tls_folder, is_named=True)
    bridge = {
        "name": "factory",
        "url": f"mqtt://127.0.0.1:{free_port()}",
        "devices": ["*"],
        "in": [{"topic": "factory/{device}/temp", "to": "telemetry/temperature"}],
        "out": [{"of": "status", "topic": "house/{device}"}],
    }
    process.environment |= mqtt_environment() | {"ENTOBOT_MQTT__BRIDGES": json.dumps([bridge])}
    yield process.start()
    process.close()


def limits_topics(window: Window, gateway: GatewayProcess, thing: Thing, album: Album) -> None:
    """Of the key of a board that is connected, on its page."""
    page = window.page
    change, dialog = page.get_by_role("button", name="Change the topics of key_"), page.get_by_role("dialog")
    save = dialog.get_by_role("button", name="Save the topics")
    publishes = dialog.get_by_label("Topics to publish")
    change.click()
    expect(publishes).to_have_value("status\ntelemetry/#")
    expect(save).to_be_disabled()
    dialog.get_by_role("button", name="Check").click()
    window.sees("This device has done nothing by MQTT yet")
    expect(save).to_be_enabled()
    board = Board(gateway, thing).opened()
    assert board.publish(f"{board.root}/telemetry/t", b"21") == board.publish(f"{board.root}/status", b"{}") == 0
    assert board.subscribe(f"{board.root}/command") == [1]
    publishes.fill("telemetry/t#")
    expect(save).to_be_disabled()
    dialog.get_by_role("button", name="Check").click()
    expect(dialog.get_by_role("alert")).to_contain_text("'telemetry/t#' is no topic filter")
    publishes.fill("telemetry/#")
    dialog.get_by_label("May subscribe to").select_option("nothing")
    dialog.get_by_role("button", name="Check").click()
    expect(dialog.get_by_role("status")).to_contain_text("Of 3 things that the device does at present, this key would")
    expect(dialog.get_by_role("listitem")).to_have_text(["subscribe command", "publish status"])
    album.add("admin-key-topics")
    assert board.publish(f"{board.root}/status", b"{}") == 0, "it was only checked"
    save.click()
    window.sees("publishes telemetry/# · subscribes to nothing")
    assert board.publish(f"{board.root}/status", b"{}") == NOT_AUTHORIZED
    assert board.publish(f"{board.root}/telemetry/t", b"22") == 0
    change.click()
    expect(dialog.get_by_label("May subscribe to")).to_have_value("none")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    board.client.disconnect()


@pytest.mark.parametrize(("name", "size"), [("phone", PHONE), ("desktop", DESKTOP)])
def test_boards_are_let_in_by_one_key_typed_and_cut_off(
    gateway: GatewayProcess, new_window: NewWindow, name: str, size: Size
) -> None:
    window = signed_in(new_window, gateway, size=size)
    page, album = window.page, Album(window, name)
    window.may_lose_network = True  # of boards whose key is gone
    window.open("/admin/things")
    window.sees("No things yet.")
    page.get_by_label("Type, as JSON").fill("[]")
    window.button("Save the type").click()
    window.sees("This is no JSON object")
    page.get_by_label("Type, as JSON").fill(json.dumps(TYPE))
    window.button("Save the type").click()
    window.sees("reads temperature")

    window.open("/admin/enrolment")
    window.sees("No enrolment keys yet.")
    page.get_by_label("Name", exact=True).fill("Greenhouse")
    page.get_by_label("For so many boards").fill("2")
    page.get_by_label("Type of the boards").fill("thermometer")
    page.get_by_label("Tags").fill("north  wet")
    page.get_by_label("May publish").fill("telemetry/#, status")
    page.get_by_label("May subscribe to").fill("command")
    window.button("Make the key").click()
    window.sees("The enrolment key Greenhouse.")
    key = page.get_by_role("status").get_by_text(re.compile("ent_enr_")).inner_text()
    asked: dict[str, Any] = {
        "headers": {"Authorization": f"Bearer {key}"},
        "json": {"nonce": "n" * 43, "device_name": "Bed 1"},
    }
    board = gateway.http().request("POST", "/api/v1/enrol", **asked).json()
    window.sees("1 of 2")
    window.sees("thermometer north wet")
    window.sees("publishes status, telemetry/# · subscribes to command")
    album.add("admin-enrolment")

    window.open("/admin/things")
    expect(page.get_by_label("Type of Bed 1")).to_have_value("thermometer")
    window.sees("never heard of")
    album.add("admin-things")
    page.route("**/type", lambda route: route.fulfill(status=503, json=BUSY), times=1)
    page.get_by_label("Type of Bed 1").select_option("none")
    window.sees("Not now.")
    expect(page.get_by_label("Type of Bed 1")).to_have_value("thermometer")
    with page.expect_response(lambda answer: answer.request.method == "PUT" and answer.url.endswith("/type")):
        page.get_by_label("Type of Bed 1").select_option("none")
    expect(page.get_by_label("Type of Bed 1")).to_have_value("")
    assert gateway.ask("things", "show", "Bed 1")["type"] is None
    window.button("Remove the type thermometer").click()
    window.sees("No types yet.")

    window.open(f"/admin/devices/{board['device_id']}")
    window.sees("publishes status, telemetry/# · subscribes to command")
    limits_topics(window, gateway, Thing(gateway, "Bed 1", board), album)
    page.get_by_role("button", name="Revoke key_").click()
    album.add("admin-credential-revoke")
    page.get_by_role("alertdialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("region", name="Keys and certificates").get_by_text("revoked")).to_be_visible()
    album.add("admin-credentials")
    refused = gateway.http().request("GET", "/api/v1/me", headers={"Authorization": f"Bearer {board['api_key']}"})
    assert refused.status_code == 401

    window.open("/admin/bridges")
    bridge = page.get_by_role("region", name="factory")
    expect(bridge).to_contain_text("factory/{device}/temp is taken as telemetry/temperature")
    expect(bridge).to_contain_text("status is told as house/{device}")
    expect(bridge.get_by_text("waits to try again")).to_be_visible()
    expect(bridge.get_by_role("alert")).to_contain_text(gateway.ask("mqtt", "bridges")[0]["error"])
    album.add("admin-bridges")

    window.open("/admin/enrolment")
    window.button("Revoke the enrolment key Greenhouse and its boards").click()
    window.sees("1 device is cut off at once")
    page.get_by_role("alertdialog").get_by_role("button", name="Revoke it and its boards").click()
    expect(page.get_by_role("cell", name="revoked")).to_be_visible()
    assert gateway.ask("devices", "show", board["device_id"])["status"] == "revoked"
    assert album.found == {}, json.dumps(album.found, indent=1)
