"""Pairing that does not work: what the phone and the terminal say, and what is left of the invite."""

import sqlite3

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import NewTerminal, NewWindow
from tests.browser.window import INVITES, Window, sent
from tests.support.process import GatewayProcess


@pytest.fixture
def phone(shared_gateway: GatewayProcess, new_window: NewWindow) -> Window:
    window = new_window(shared_gateway)
    window.may_lose_network = True
    return window


@pytest.mark.parametrize("command", ["pair", "up"])
def test_wrong_digits_void_the_invite_and_both_sides_say_what_to_do(
    idle_gateway: GatewayProcess, new_terminal: NewTerminal, new_window: NewWindow, command: str
) -> None:
    if command == "pair":
        idle_gateway.start()
    terminal = new_terminal(idle_gateway, *(("pair",) if command == "pair" else ("up", "--pair")))
    phone = new_window(idle_gateway)
    phone.may_lose_network = True
    link = terminal.link()
    phone.page.goto(link)
    phone.button("Pair").click()
    digits = phone.digits()
    terminal.wait_for("six digits")
    terminal.type("12345")  # a slip of the keys, not a wrong number
    terminal.wait_for("Six digits, please")
    terminal.type(f"{(int(digits) + 1) % 1_000_000:06d}")
    terminal.wait_for("entobot pair")
    phone.sees("This invitation was closed after wrong entries, to be safe. Get a new one on the gateway.")
    expect(phone.page.get_by_label("Pairing code")).to_be_visible()
    assert idle_gateway.ask("devices", "list") == []
    if command == "pair":
        assert terminal.wait() == 6
        # Nothing helps the void invite, the right digits included.
        invite_id = link.partition("i=")[2].partition("&")[0]
        assert idle_gateway.cli("pair", "confirm", invite_id, digits).returncode == 1
    else:
        terminal.press_ctrl_c()
        assert terminal.wait() == 0
    assert "Traceback" not in terminal.text


def test_an_expired_invite_says_where_to_get_a_new_one(phone: Window, shared_gateway: GatewayProcess) -> None:
    invite = phone.operator.invite()
    phone.page.goto(invite["url"])
    phone.sees("This invitation is good until")
    with sqlite3.connect(shared_gateway.home / "entobot.db") as database:  # five minutes pass
        database.execute("UPDATE pairing_invites SET deadline_ms = 0 WHERE invite_id = ?", (invite["invite_id"],))
    database.close()
    phone.button("Pair").click()
    phone.sees("This invitation has expired. Get a new one on the gateway, then scan or type it here.")
    expect(phone.page.get_by_label("Pairing code")).to_be_visible()


def test_a_used_invite_is_refused_to_the_second_phone(
    phone: Window, shared_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    invite = phone.operator.invite()
    for window in (phone, second := new_window(shared_gateway)):
        window.page.goto(invite["url"])
    second.may_lose_network = True
    phone.button("Pair").click()
    phone.digits()
    second.button("Pair").click()
    second.sees("This invitation was already used, perhaps by another device.")
    phone.operator.confirm(invite["invite_id"], phone.digits())
    phone.is_in_a_new_chat()


def test_a_link_that_is_cut_short_or_made_up_is_explained(phone: Window) -> None:
    invite = phone.operator.invite()
    phone.page.goto(invite["url"].partition("&s=")[0])
    phone.sees("The link is cut short.")
    phone.page.goto("about:blank")
    phone.page.goto(invite["url"].replace(invite["secret"], "A" * len(invite["secret"])))
    phone.button("Pair").click()
    phone.sees("The gateway does not know this invitation or code.")


def test_a_cancelled_invite_ends_the_wait_of_the_phone(phone: Window) -> None:
    invite = phone.operator.invite()
    phone.page.goto(invite["url"])
    phone.button("Pair").click()
    phone.digits()
    phone.operator.request("DELETE", f"{INVITES}/{invite['invite_id']}")
    expect(phone.page.get_by_role("alert").filter(has_text="That did not work")).to_be_visible()


def test_a_claim_whose_answer_and_page_were_lost_goes_on_with_its_key(
    phone: Window, shared_gateway: GatewayProcess
) -> None:
    lost: list[str] = []
    gateway = shared_gateway.http()

    def lose_the_answer(route: Route) -> None:
        claim = sent(route.request)
        assert gateway.post("/api/v1/auth/pair", json=claim).status_code == 200
        lost.append(claim["public_key"]["x"])
        route.abort()

    invite = phone.operator.invite()
    phone.context.route("**/api/v1/auth/pair", lose_the_answer)
    phone.page.goto(invite["url"])
    phone.page.get_by_label("Name of this device").fill("Stubborn")
    phone.button("Pair").click()
    phone.sees("The gateway does not answer. Check that this device is on the same network")
    phone.context.unroute("**/api/v1/auth/pair")
    with phone.page.expect_request("**/api/v1/auth/pair") as repeated:
        phone.page.reload()
    digits = phone.digits()
    body = sent(repeated.value)
    assert {body["public_key"]["x"]} == set(lost)
    assert body["device_info"]["device_name"] == "Stubborn"
    phone.operator.confirm(invite["invite_id"], digits)
    phone.is_in_a_new_chat()


def test_a_wait_goes_on_after_a_reload(phone: Window) -> None:
    invite = phone.operator.invite()
    phone.page.goto(invite["url"])
    phone.button("Pair").click()
    digits = phone.digits()
    phone.page.reload()
    assert phone.digits() == digits
    phone.operator.confirm(invite["invite_id"], digits)
    phone.is_in_a_new_chat()
