"""Automations on the phone and in the dashboard: made, switched, tried, and what they did."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import NewWindow, make_gateway
from tests.browser.test_admin_pages import signed_in
from tests.browser.test_pages import Album
from tests.browser.test_things import TYPE
from tests.browser.window import DESKTOP, PHONE, Size
from tests.support.board import Board, mqtt_environment
from tests.support.process import GatewayProcess
from tests.support.thing import Thing


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tls_folder: Path) -> Iterator[tuple[GatewayProcess, Board]]:
    folder = tmp_path_factory.mktemp("automations")
    gateway = make_gateway(folder, tls_folder, is_named=True)
    gateway.environment.update(mqtt_environment())
    gateway.start()
    (folder / "garage.json").write_text(json.dumps(TYPE))
    assert gateway.cli("things", "types", "add", str(folder / "garage.json")).returncode == 0
    board = Board(gateway, Thing.make(gateway, "Garage"))
    gateway.ask("things", "set-type", "Garage", "garage")
    board.opened()
    board.publish(f"{board.root}/telemetry/temperature", "21.5")
    yield gateway, board
    gateway.close()


@pytest.mark.parametrize(("name", "size"), [("phone", PHONE), ("desktop", DESKTOP)])
def test_a_rule_is_made_on_the_phone_fires_and_is_switched_and_removed(
    home: tuple[GatewayProcess, Board], new_window: NewWindow, name: str, size: Size
) -> None:
    gateway, board = home
    window = new_window(gateway, size)
    page, album = window.page, Album(window, name)
    window.pair("Maker")
    window.open("/things")
    window.link("Automations").click()
    window.heading("Automations")
    window.sees(re.compile("No automations yet"))
    page.get_by_label("Value").fill("25")
    window.button("Make it").click()
    window.sees(re.compile("temperature of Garage above 25 · never fired"))
    board.publish(f"{board.root}/telemetry/temperature", "26")
    board.publish(f"{board.root}/telemetry/temperature", "20")
    window.sees(re.compile("above 25 · last"))
    album.add("automations")
    switch = page.get_by_label("On: Temperature of Garage")
    switch.uncheck()
    expect(page.get_by_text("off", exact=True)).to_be_visible()
    expect(switch).not_to_be_checked()
    window.link(re.compile("Temperature of Garage")).click()
    window.heading("Temperature of Garage")
    window.sees(re.compile("temperature 26"))
    window.sees("notification: done")
    album.add("automation")
    window.button("Remove").click()
    window.button("Really remove it?").click()
    window.sees(re.compile("No automations yet"))
    window.open("/device")
    page.get_by_label("Language").select_option("Deutsch")
    window.heading("Dieses Gerät")  # the page has loaded itself anew
    window.open("/automations")
    window.heading("Automationen")
    assert album.found == {}


@pytest.mark.parametrize(("name", "size"), [("phone", PHONE), ("desktop", DESKTOP)])
def test_a_rule_is_made_tried_changed_and_removed_in_the_dashboard(
    home: tuple[GatewayProcess, Board], new_window: NewWindow, name: str, size: Size
) -> None:
    gateway, board = home
    window = signed_in(new_window, gateway, size=size)
    page, album = window.page, Album(window, name)
    window.open("/admin/automations")
    window.sees("No automations yet.")
    page.get_by_label("The rule, as JSON").fill("[]")
    window.button("Make it").click()
    window.sees("This is no JSON object.")
    rule = {
        "name": "Warm",
        "when": {"thing": "Garage", "reading": "temperature", "above": 30},
        "then": [{"do": "notify"}],
    }
    page.get_by_label("The rule, as JSON").fill(json.dumps(rule))
    window.button("Make it").click()
    window.sees("temperature of Garage above 30 → notify me")
    board.publish(f"{board.root}/telemetry/temperature", "31")
    board.publish(f"{board.root}/telemetry/temperature", "20")
    album.add("admin-automations")
    window.link("Warm").click()
    window.sees(re.compile("Garage: temperature 31 °C, since"))
    window.sees("notify me: done")
    window.button("Try").click()
    expect(page.get_by_role("status").get_by_text(re.compile("temperature 31 °C.* notify me"))).to_be_visible()
    album.add("admin-automation")
    page.get_by_label("The rule, as JSON").fill(json.dumps(rule | {"name": "Hot"}))
    window.button("Change it").click()
    window.heading("Hot")
    window.button("Switch off").click()
    expect(window.button("Switch on")).to_be_visible()
    window.button("Remove").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Remove").click()
    window.sees("No automations yet.")
    assert album.found == {}


def test_a_switch_that_is_turned_twice_before_the_gateway_has_answered_ends_as_it_stands(
    home: tuple[GatewayProcess, Board], new_window: NewWindow
) -> None:
    gateway, _ = home
    window = new_window(gateway)
    page = window.page
    window.pair("In a hurry")
    window.open("/automations")
    page.get_by_label("Value").fill("90")
    window.button("Make it").click()
    switch = page.get_by_label("On: Temperature of Garage")
    switch.click()
    expect(page.get_by_text("off", exact=True)).to_be_visible()
    held: list[Route] = []
    page.route("**/enable", lambda route: held.append(route), times=1)  # noqa: PLW0108  it is inspected
    with page.expect_request("**/enable"):
        switch.click()
    switch.click()
    with page.expect_response(lambda answer: answer.url.endswith("/disable")):
        held.pop().continue_()
    expect(switch).not_to_be_checked()
    assert " off " in gateway.cli("automations", "list").stdout
    window.may_lose_network = True
    page.route("**/enable", lambda route: route.abort("connectionreset"), times=2)
    switch.click()
    window.sees("The gateway was not reached. Try again.")
    expect(switch).not_to_be_checked()
    for _ in range(2):  # the page looks again by itself
        page.wait_for_event("response", lambda answer: answer.url.endswith("/automations"))
    window.sees("The gateway was not reached. Try again.")
    window.link(re.compile("Temperature of Garage")).click()
    window.button("Remove").dblclick()
    expect(window.button("Really remove it?")).to_be_visible()
    assert "Temperature of Garage" in gateway.cli("automations", "list").stdout


def test_the_form_is_there_when_the_gateway_is_reached_again(
    home: tuple[GatewayProcess, Board], new_window: NewWindow
) -> None:
    window = new_window(home[0])
    window.may_lose_network = True
    window.pair("Underground")
    window.becomes("navigator.serviceWorker.ready.then(() => true)")
    window.context.set_offline(True)
    window.open("/automations")
    window.sees(re.compile("gateway is not reached", re.IGNORECASE))
    expect(window.page.get_by_label("Value")).to_have_count(0)
    window.context.set_offline(False)
    expect(window.page.get_by_label("Value")).to_be_visible()
