"""Invites by SMS in the dashboard: sent, followed, compared, sent again; and what it says where nothing is sent."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import NewWindow, make_gateway
from tests.browser.test_admin_pages import signed_in
from tests.browser.test_pages import Album
from tests.browser.window import DESKTOP, PHONE, Size, Window
from tests.support.carrier import SECRETS, Carrier
from tests.support.process import GatewayProcess

NUMBER, SHOWN = "+1 (415) 555-0123", "+1 ••••••••23"


@pytest.fixture
def carrier() -> Iterator[Carrier]:
    carrier = Carrier("twilio")
    yield carrier
    carrier.stop()


@pytest.fixture
def texting_gateway(tmp_path: Path, tls_folder: Path, carrier: Carrier) -> Iterator[GatewayProcess]:
    secret = tmp_path / "secret"
    secret.write_text(SECRETS["twilio"])
    secret.chmod(0o600)
    process = make_gateway(tmp_path, tls_folder, is_named=True)
    given = carrier.settings | {"secret_file": secret, "countries": "US", "receipts_origin": process.origin}
    process.environment |= {f"ENTOBOT_SMS__{name.upper()}": str(value) for name, value in given.items()}
    process.start()
    yield process
    process.close()


def open_dialog(window: Window) -> None:
    window.page.goto(f"{window.origin}/admin/invites")
    window.page.get_by_role("main").get_by_role("button", name="Pair a device").click()
    window.page.get_by_label("How").select_option("sms")


@pytest.mark.parametrize(("name", "size"), [("phone", PHONE), ("desktop", DESKTOP)])
def test_a_phone_far_away_is_invited_compared_and_let_in(
    texting_gateway: GatewayProcess, carrier: Carrier, new_window: NewWindow, name: str, size: Size
) -> None:
    window = signed_in(new_window, texting_gateway, size=size)
    album = Album(window, name)
    open_dialog(window)
    expect(window.page.get_by_label("Confirm by")).to_have_value("approve")
    window.sees(re.compile("SMS goes to: US"))
    album.add("admin-sms")
    window.page.get_by_label("Phone number").fill(NUMBER)
    window.button("Send it").click()
    window.sees(f"An SMS with the link goes to {SHOWN}. You may close this: the invite stays on the list.")
    ((number, text),) = carrier.until(1)
    assert number == "+14155550123"
    window.sees("taken by the provider")
    texting_gateway.http().send(carrier.receipt(carrier.callbacks[0], "delivered"))
    window.sees("delivered")
    expect(window.page.get_by_role("button", name=re.compile("Send again in .* s"))).to_be_disabled()
    album.add("admin-sms-sent")
    window.button("Close").click()
    expect(window.page.get_by_role("row", name=re.compile("delivered"))).to_contain_text(SHOWN)  # and is not cancelled
    assert window.operator.request("GET", "/api/v1/pairing/invites")["rows"][0]["state"] == "open"
    assert album.found == {}, json.dumps(album.found, indent=1)

    phone = new_window(texting_gateway, PHONE)
    phone.page.goto(next(line for line in text.splitlines() if line.startswith("https://")))
    phone.page.get_by_label("Name of this device").fill("Ada's phone")
    phone.button("Pair").click()
    assert len(phone.digits()) == 6


def test_the_digits_of_whoever_asks_stand_beside_the_question(
    texting_gateway: GatewayProcess, carrier: Carrier, new_window: NewWindow
) -> None:
    window = signed_in(new_window, texting_gateway)
    open_dialog(window)
    window.page.get_by_label("Phone number").fill(NUMBER)
    window.button("Send it").click()
    ((_, text),) = carrier.until(1)
    phone = new_window(texting_gateway, PHONE)
    phone.page.goto(next(line for line in text.splitlines() if line.startswith("https://")))
    phone.page.get_by_label("Name of this device").fill("Ada's phone")
    phone.button("Pair").click()
    digits = phone.digits()
    window.button("Close").click()
    window.button("Answer Ada's phone").click()  # from the list, as who closed it before does
    window.sees("Ask the person what their phone shows.")
    expect(window.page.get_by_role("dialog")).to_contain_text(digits)
    expect(window.page.get_by_role("dialog")).to_contain_text("Ada's phone")
    album = Album(window, "desktop")
    album.add("admin-sms-compare")
    assert album.found == {}, json.dumps(album.found, indent=1)
    window.button("Pair it").click()
    window.sees("Ada's phone is paired.")
    phone.is_in_a_new_chat()


def test_a_number_that_is_none_is_told_and_an_invite_is_cancelled(
    texting_gateway: GatewayProcess, carrier: Carrier, new_window: NewWindow
) -> None:
    window = signed_in(new_window, texting_gateway)
    window.may_lose_network = True  # the refusal
    open_dialog(window)
    window.page.get_by_label("Phone number").fill("+4915112345678")
    window.button("Send it").click()
    window.sees(re.compile("sms.countries does not name it"))
    window.page.get_by_label("Phone number").fill(NUMBER)
    window.button("Send it").click()
    carrier.until(1)
    window.button("Cancel the invite").click()
    window.sees("This invite was cancelled.")


def test_where_nothing_is_sent_every_place_says_so(tmp_path: Path, tls_folder: Path, new_window: NewWindow) -> None:
    process = make_gateway(tmp_path, tls_folder, is_named=True)
    process.environment["ENTOBOT_SMS__PROVIDER"] = "console"
    process.start()
    try:
        window = signed_in(new_window, process)
        window.open("/admin")
        window.sees("sms.provider is 'console': invites by SMS are not sent.")
        open_dialog(window)
        window.sees("The provider is 'console', for development: nothing is sent. You get the link here instead.")
        window.page.get_by_label("Phone number").fill(NUMBER)
        window.button("Send it").click()
        window.sees(f"Nothing was sent to {SHOWN}: the provider is 'console', for development.")
        expect(window.page.get_by_label("Pairing link")).to_have_text(re.compile("#v=1&i=inv_"))
        window.button("Close").click()
        expect(window.page.get_by_role("row", name=re.compile("nothing was sent"))).to_be_visible()
        assert "nothing was sent" in process.cli("pair", "list").stdout.lower().replace("not sent", "nothing was sent")
    finally:
        process.close()


def test_without_a_provider_the_dialog_says_what_to_do(tmp_path: Path, tls_folder: Path, new_window: NewWindow) -> None:
    process = make_gateway(tmp_path, tls_folder, is_named=True)
    process.start()
    try:
        window = signed_in(new_window, process)
        open_dialog(window)
        window.sees(re.compile("No provider of SMS is set up"))
        expect(window.button("Send it")).to_be_disabled()
    finally:
        process.close()
