"""The admin pages where passwords are on: setting one up with an authenticator app, coming back, and losing the phone."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import NewWindow, make_gateway
from tests.browser.test_admin import age_sessions, follow_link, sign_out, with_authenticator
from tests.browser.test_pages import Album
from tests.browser.window import DESKTOP, PHONE, Window
from tests.support.browser import App
from tests.support.operator import Operator
from tests.support.process import GatewayProcess

PASSWORD = "seven herons under a bridge"


@pytest.fixture
def unnamed_gateway(tmp_path: Path, tls_folder: Path) -> Iterator[GatewayProcess]:
    """At an address, where there are no passkeys."""
    process = make_gateway(tmp_path, tls_folder)
    process.environment["ENTOBOT_SIGNIN__PASSWORDS"] = "true"
    yield process.start()
    process.close()


@pytest.fixture
def named_gateway(tmp_path: Path, tls_folder: Path) -> Iterator[GatewayProcess]:
    process = make_gateway(tmp_path, tls_folder, is_named=True)
    process.environment["ENTOBOT_SIGNIN__PASSWORDS"] = "true"
    yield process.start()
    process.close()


def later(gateway: GatewayProcess) -> None:
    """As if the codes that were used were of some minutes ago."""
    Operator(gateway).execute("UPDATE authenticators SET last_step = last_step - 100")


def scan(window: Window) -> App:
    """The key, as it stands below the picture."""
    key = window.page.locator("form .mono").inner_text().replace(" ", "")
    return App(base64.b32decode(key))


def set_up(window: Window) -> App:
    window.button("Add an authenticator app").click()
    expect(window.page.get_by_role("img", name="QR code for an authenticator app")).to_be_visible()
    app = scan(window)
    window.page.get_by_label("Code that the app shows").fill(app.code())
    window.button("Confirm").click()
    window.heading("Your recovery codes")
    app.recovery_codes = window.page.locator(".codes li").all_inner_texts()
    assert len(app.recovery_codes) == 10
    window.button("I have kept them").click()
    window.page.get_by_label("New password").fill(PASSWORD)
    window.button("Set the password").click()
    window.sees("The password is set.")
    return app


def type_password(window: Window, login: str) -> None:
    window.page.get_by_label("Login", exact=True).fill(login)
    window.page.get_by_label("Password", exact=True).fill(PASSWORD)
    window.button("Sign in").click()


def test_a_password_and_an_app_are_set_up_by_link_and_sign_in_and_step_up(
    unnamed_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    window = new_window(unnamed_gateway, PHONE)
    window.may_lose_network = True
    follow_link(window, unnamed_gateway, "owner")
    window.heading("First steps")
    window.open("/admin/you")
    window.sees("Your role wants more than a password.")
    app = set_up(window)

    sign_out(window)
    window.page.get_by_label("Login", exact=True).fill("owner")
    window.page.get_by_label("Password", exact=True).fill("something else entirely")
    window.button("Sign in").click()
    expect(window.page.get_by_role("alert")).to_contain_text("do not fit")
    type_password(window, "owner")
    code = window.page.get_by_label("Code of your authenticator app")
    expect(code).to_be_focused()
    expect(code).to_have_attribute("autocomplete", "one-time-code")
    code.fill("000000")
    window.button("Sign in").click()
    expect(window.page.get_by_role("alert")).to_contain_text("This code is wrong")
    later(unnamed_gateway)
    code.fill(app.code())
    window.page.keyboard.press("Enter")
    window.heading("Where you are signed in")

    age_sessions(unnamed_gateway)
    later(unnamed_gateway)
    window.button("New recovery codes").click()
    window.heading("Is it still you?")
    dialog = window.page.get_by_role("dialog")
    dialog.get_by_label("Password", exact=True).fill("something else entirely")
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog.get_by_role("alert")).to_contain_text("do not fit")
    dialog.get_by_label("Password", exact=True).fill(PASSWORD)
    dialog.get_by_role("button", name="Sign in").click()
    dialog.get_by_label("Code of your authenticator app").fill(app.code())
    dialog.get_by_role("button", name="Sign in").click()
    window.heading("Your recovery codes")


def test_who_lost_the_phone_comes_back_with_a_recovery_code_and_is_told(
    named_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    window = with_authenticator(new_window(named_gateway, DESKTOP))
    window.operator.add_person("bob", "operator")
    follow_link(window, named_gateway, "bob")
    window.heading("First steps")
    window.open("/admin/you")
    app = set_up(window)
    sign_out(window)
    window.button("Use a password").click()
    type_password(window, "bob")
    window.button("Use a recovery code").click()
    window.page.get_by_label("Recovery code", exact=True).fill(app.recovery_codes[0].lower())
    window.button("Sign in").click()
    window.sees(re.compile("A recovery code was used"))
    window.sees(re.compile("Recovery codes left: 9"))
    window.sees(re.compile("by password and recovery code"))
    window.button("Replace the app").click()
    new = scan(window)
    assert new.secret != app.secret
    window.page.get_by_label("Code that the app shows").fill(new.code())
    held: list[Route] = []
    window.page.route("**/api/v1/me/factors", lambda route: held.append(route))  # noqa: PLW0108  it is inspected
    with window.page.expect_request("**/api/v1/me/factors"):
        window.button("Confirm").click()
    codes, told = window.page.locator(".codes"), window.page.get_by_text("A recovery code was used")
    expect(told).to_be_visible()
    expect(codes, "not while what stands above them is about to go").to_have_count(0)
    held.pop().continue_()
    window.heading("Your recovery codes")
    expect(told).to_be_hidden()
    with window.page.expect_download() as download:
        window.page.get_by_role("link", name="Download").click()
    kept = download.value.path().read_text()
    assert all(code in kept for code in window.page.locator(".codes li").all_inner_texts())


def test_every_page_about_passwords_is_accessible_in_both_themes(
    named_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    window = with_authenticator(new_window(named_gateway, DESKTOP))
    album = Album(window)
    follow_link(window, named_gateway, "owner")
    window.heading("First steps")
    window.open("/admin/you")
    window.button("Add an authenticator app").click()
    expect(window.page.get_by_role("img", name="QR code for an authenticator app")).to_be_visible()
    album.add("admin-app")
    app = scan(window)
    window.page.get_by_label("Code that the app shows").fill(app.code())
    window.button("Confirm").click()
    window.heading("Your recovery codes")
    album.add("admin-recovery-codes")
    window.button("I have kept them").click()
    window.page.get_by_label("New password").fill(PASSWORD)
    window.button("Set the password").click()
    window.sees("The password is set.")
    album.add("admin-password")
    age_sessions(named_gateway)
    window.button("Remove the password").click()
    window.heading("Is it still you?")
    expect(window.page.get_by_role("dialog").get_by_label("Password", exact=True)).to_be_visible()
    album.add("admin-fresh-password")
    window.page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    sign_out(window)
    window.button("Use a password").click()
    album.add("admin-sign-in-password")
    type_password(window, "owner")
    expect(window.page.get_by_label("Code of your authenticator app")).to_be_visible()
    album.add("admin-sign-in-code")
    window.button("Use a recovery code").click()
    album.add("admin-sign-in-recovery")
    assert album.found == {}
