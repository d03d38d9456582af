"""Approvals on the phone and in the dashboard: rules that are made, used and ended there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import WebSocketRoute, expect

from tests.browser.conftest import NewWindow, make_gateway
from tests.browser.keys import tab_to
from tests.browser.test_admin import add_passkey, follow_link, with_authenticator
from tests.browser.test_admin_pages import signed_in
from tests.browser.test_pages import Album
from tests.browser.window import DESKTOP, PHONE
from tests.support.process import GatewayProcess

PAYMENTS = [{"tool": "note", "args": {"text": {"begins": "pay "}}, "risk": "high"}]


@pytest.fixture
def paying_gateway(tmp_path: Path, tls_folder: Path) -> Iterator[GatewayProcess]:
    """Under a name, with something that is of high risk."""
    process = make_gateway(tmp_path, tls_folder, is_named=True)
    process.environment["ENTOBOT_APPROVALS__POLICIES"] = json.dumps(PAYMENTS)
    yield process.start()
    process.close()


def test_a_rule_is_made_used_and_ended_on_the_phone(gateway: GatewayProcess, new_window: NewWindow) -> None:
    window = new_window(gateway, PHONE)
    page = window.page
    window.pair("Ada's phone")
    window.write("!note buy milk")
    expect(window.asked).to_be_visible()
    window.review()
    page.get_by_text("Always allow this").click()
    words = page.locator("#rule-words")
    expect(words).to_contain_text("For 1 day, without asking:")
    expect(words).to_contain_text('text is exactly "buy milk"')
    page.get_by_label("What text may be").select_option("begins")
    page.get_by_label("text begins with").fill("sell")
    window.sees("This does not cover the request itself.")
    expect(window.button("Approve, and allow this from now on")).to_be_disabled()
    page.get_by_label("text begins with").fill("buy ")
    page.get_by_label("For how long").select_option("1 hour")
    expect(words).to_contain_text("For 1 hour, without asking:")
    expect(words).to_contain_text('text begins with "buy "')
    album = Album(window, "phone")
    album.add("approval-always")
    window.button("Approve, and allow this from now on").click()
    window.sees("Approved. The agent goes on.")

    window.open("/chat/new")
    window.write("!note buy eggs")
    expect(window.answers.last).to_contain_text("noted: buy eggs")
    window.open("/approvals")
    window.heading("Allowed without asking")
    window.sees("used once")
    album.add("approvals-rules")
    window.button("End the rule for note").click()
    expect(page.get_by_role("heading", name="Allowed without asking")).to_have_count(0)
    window.open("/chat/new")
    window.write("!note buy bread")
    expect(window.asked).to_be_visible()
    assert album.found == {}


def test_arguments_are_changed_looked_at_and_what_was_signed_runs(
    gateway: GatewayProcess, new_window: NewWindow
) -> None:
    window = new_window(gateway, PHONE)
    page = window.page
    window.pair("Ada's phone")
    window.write("!note buy milk")
    window.review()
    page.get_by_text("Change it first").click()
    expect(window.button("Look at the change")).to_be_disabled()
    page.get_by_label("text", exact=True).fill("buy oat milk")
    window.button("Look at the change").click()
    change = page.get_by_role("list", name="The change")
    expect(change.get_by_role("listitem")).to_have_text(
        [re.compile("text: buy milk"), re.compile("text: buy oat milk")]
    )
    album = Album(window, "phone")
    album.add("approval-edited")
    page.get_by_label("text", exact=True).fill("buy oat milk twice")
    expect(window.button("Approve")).to_be_visible()  # what was looked at is not what stands there now
    page.get_by_label("text", exact=True).fill("buy oat milk")
    window.button("Look at the change").click()
    window.button("Approve as changed").click()
    window.sees("Approved. The agent goes on.")
    window.link("Open the conversation").click()
    expect(window.answers.last).to_contain_text("noted: buy oat milk")
    assert album.found == {}


def test_a_change_that_was_typed_while_another_was_checked_is_not_taken_as_checked(
    shared_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    window = new_window(shared_gateway)
    checks: set[str] = set()
    held: list[tuple[WebSocketRoute, str | bytes]] = []

    def hold_what_was_found(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def up(message: str | bytes) -> None:
            frame = json.loads(message)
            if frame.get("name") == "approval.check_edit":
                checks.add(frame["id"])
            server.send(message)

        def down(message: str | bytes) -> None:
            if json.loads(message).get("id") in checks:
                held.append((socket, message))
            else:
                socket.send(message)

        socket.on_message(up)
        server.on_message(down)

    window.context.route_web_socket("**/ws", hold_what_was_found)
    window.pair("In a hurry")
    window.write("!note buy milk")
    window.review()
    window.page.get_by_text("Change it first").click()
    text = window.page.get_by_label("text", exact=True)
    text.fill("buy oat milk")
    window.button("Look at the change").click()
    window.until(lambda: held, "the gateway has not checked it")
    text.fill("buy a distillery")
    for socket, message in held:
        socket.send(message)
    expect(window.button("Look at the change")).to_be_enabled()
    expect(window.button("Approve as changed")).to_have_count(0)


def test_a_rule_is_made_by_keyboard_alone_and_ended_in_the_dashboard(
    gateway: GatewayProcess, new_window: NewWindow
) -> None:
    window = new_window(gateway, DESKTOP)
    window.pair("Keyboard")
    window.write("!note buy milk")
    window.review()
    keyboard = window.page.keyboard
    tab_to(window, "Always allow this …")
    keyboard.press("Enter")
    tab_to(window, "What text may be")
    keyboard.press("End")
    expect(window.page.locator("#rule-words")).to_contain_text("text is any text of at most 200 characters")
    tab_to(window, "Approve, and allow this from now on")
    keyboard.press("Enter")
    window.sees("Approved. The agent goes on.")

    admin = signed_in(new_window, gateway)
    admin.link("Approvals").click()
    admin.heading("Allowed without asking")
    admin.sees("text is any text of at most 200 characters")
    album = Album(admin, "desktop")
    album.add("admin-approvals-rules")
    admin.button("End the rule for note?").click()
    admin.page.get_by_role("alertdialog").get_by_role("button", name="End", exact=True).click()
    admin.sees("by a person")
    assert album.found == {}


def test_a_payment_takes_digits_and_a_passkey_that_the_phone_makes(
    paying_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    window = with_authenticator(new_window(paying_gateway, PHONE))
    page = window.page
    window.pair("Ada's phone")
    window.write("!note pay Bob 10")
    expect(window.asked).to_be_visible()
    window.review()
    number = page.locator("[data-number]").inner_text()
    expect(window.button("Approve")).to_be_disabled()
    expect(page.get_by_text("Always allow this")).to_have_count(0)
    window.button("Make a passkey").click()
    window.sees("Approving asks for your fingerprint, face or PIN.")
    expect(window.button("Approve")).to_be_disabled()
    album = Album(window, "phone")
    album.add("approval-high")
    page.get_by_label("The two digits").fill("10" if number != "10" else "11")
    window.may_lose_network = True
    window.button("Approve").click()
    window.sees("These are not the digits.")
    page.get_by_label("The two digits").fill(number)
    window.button("Approve").click()
    window.sees("Approved. The agent goes on.")
    album.add("approval-high-done")
    assert album.found == {}


def test_the_dashboard_decides_with_a_passkey_and_keeps_the_history(
    paying_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    phone = new_window(paying_gateway, PHONE)
    phone.pair("Ada's phone")
    phone.write("!note pay Bob 10")
    expect(phone.asked).to_be_visible()
    admin = with_authenticator(new_window(paying_gateway, DESKTOP))
    follow_link(admin, paying_gateway, "owner")
    add_passkey(admin, "Laptop")
    admin.link("Approvals").click()
    admin.heading("Note: pay Bob 10")
    admin.heading("Who decides")
    expect(admin.page.locator("#policies")).to_be_visible()
    album = Album(admin, "desktop")
    album.add("admin-approvals-pending")
    number = admin.page.locator("[data-number]").inner_text()
    tab_to(admin, "The two digits that the asking side shows")
    admin.page.keyboard.type(number)
    tab_to(admin, "Approve")
    admin.page.keyboard.press("Enter")
    admin.sees("Nothing waits for you.")
    admin.page.get_by_label("Which").select_option("approved")
    admin.page.get_by_label("Tool").fill("note")
    admin.sees(re.compile("agreed · .* · passkey"))
    admin.sees("from 127.0.0.1")
    admin.sees(re.compile("taken up"))
    album.add("admin-approvals-history")
    expect(phone.answers.last).to_contain_text("noted: pay Bob 10")
    assert album.found == {}
