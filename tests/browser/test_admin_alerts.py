"""Alerts in the dashboard and on a phone: seen, counted, acknowledged, tried; in both themes and widths."""

import base64
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import NewWindow, make_gateway
from tests.browser.test_admin_pages import signed_in
from tests.browser.test_pages import Album
from tests.browser.window import PHONE, Operator
from tests.support.process import GatewayProcess


class Hook(BaseHTTPRequestHandler):
    """Takes everything at /good, nothing elsewhere."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204 if self.path == "/good" else 503)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the library's name
        del format, args


@pytest.fixture
def hook_port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def warned_gateway(tmp_path: Path, tls_folder: Path, hook_port: int) -> Iterator[GatewayProcess]:
    """It says that its disk is nearly full, and a device was paired."""
    process = make_gateway(tmp_path, tls_folder, is_named=True)
    (tmp_path / "secret").write_text("whsec_" + base64.b64encode(bytes(32)).decode())
    channel = {"kind": "webhook", "secret_file": str(tmp_path / "secret")}
    channels = [
        {**channel, "name": "pager", "url": f"http://127.0.0.1:{hook_port}/good"},
        {**channel, "name": "chat", "url": f"http://127.0.0.1:{hook_port}/bad", "severity": "critical"},
    ]
    rules = [{"id": "disk_low", "threshold": 100, "window": 0}]
    process.environment |= {
        "ENTOBOT_ALERTS__EVERY": "0.2",
        "ENTOBOT_ALERTS__CHANNELS": json.dumps(channels),
        "ENTOBOT_ALERTS__RULES": json.dumps(rules),
    }
    process.start()
    Operator(process).add_key("Lamp")
    yield process
    process.close()


def test_an_alert_is_counted_acknowledged_and_channels_are_tried(
    warned_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    window = signed_in(new_window, warned_gateway)
    page = window.page
    expect(page.get_by_role("navigation").get_by_role("link", name="Alerts")).to_have_text(re.compile("2"))
    window.link(re.compile("^Alerts")).click()
    window.heading("Alerts")
    disk = page.get_by_role("article").filter(has_text="The disk is nearly full")
    expect(disk).to_contain_text("Make room")
    expect(disk).to_contain_text("pager: fired, sent")
    expect(disk).to_contain_text("the receiver answered 503")
    disk.get_by_role("button", name="Acknowledge: The disk is nearly full").click()
    window.sees("Acknowledged: The disk is nearly full")
    expect(disk).to_contain_text("taken up")
    expect(disk.get_by_role("button")).to_have_count(0)
    expect(page.get_by_role("navigation").get_by_role("link", name="Alerts")).to_have_text(re.compile("1"))
    window.button("Send a test to pager").click()
    window.sees("The test was sent to pager.")
    window.button("Send a test to chat").click()
    window.sees("The test was not sent to chat: the receiver answered 503.")
    expect(page.get_by_role("row", name=re.compile("disk_low"))).to_contain_text("≤ 100 percent free")


def test_a_viewer_sees_alerts_and_changes_nothing(warned_gateway: GatewayProcess, new_window: NewWindow) -> None:
    Operator(warned_gateway).add_person("carol", "viewer")
    window = signed_in(new_window, warned_gateway, "carol")
    window.page.goto(f"{window.origin}/admin/alerts")
    window.sees("The disk is nearly full")
    window.sees("pager")
    expect(window.page.get_by_role("main").get_by_role("button", name=re.compile("Acknowledge|test"))).to_have_count(0)


def test_a_phone_of_the_owner_shows_a_notice(warned_gateway: GatewayProcess, new_window: NewWindow) -> None:
    phone = new_window(warned_gateway, PHONE)
    phone.pair("Ada's phone")
    phone.is_live()
    warned_gateway.ask("alerts", "ack", "disk_low")
    phone.sees("Somebody takes care of: The disk is nearly full")


def test_the_page_is_accessible_in_both_themes(warned_gateway: GatewayProcess, new_window: NewWindow) -> None:
    window = signed_in(new_window, warned_gateway)
    album = Album(window)
    window.page.goto(f"{window.origin}/admin/alerts")
    window.sees("the receiver answered 503")
    window.sees("disk_low")
    album.add("admin-alerts")
    assert album.found == {}, json.dumps(album.found, indent=1)
