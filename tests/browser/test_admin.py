"""The admin pages: a first sign-in by link, a passkey, people with roles, and the way back in."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import NewWindow, make_gateway
from tests.browser.keys import tab_to
from tests.browser.test_pages import Album
from tests.browser.window import DESKTOP, PHONE, Operator, Window
from tests.support.process import GatewayProcess


@pytest.fixture
def named_gateway(tmp_path: Path, tls_folder: Path) -> Iterator[GatewayProcess]:
    """Under a name: browsers make no passkeys for addresses."""
    process = make_gateway(tmp_path, tls_folder, is_named=True)
    yield process.start()
    process.close()


def with_authenticator(window: Window) -> Window:
    """A window whose browser has a finger on its sensor, and whose first look at who is there is refused."""
    window.may_lose_network = True
    session = window.context.new_cdp_session(window.page)
    session.send("WebAuthn.enable")
    options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True}
    session.send(
        "WebAuthn.addVirtualAuthenticator",
        {"options": options | {"isUserVerified": True, "automaticPresenceSimulation": True}},
    )
    return window


def follow_link(window: Window, gateway: GatewayProcess, login: str) -> None:
    window.page.goto(window.operator.link(login))
    window.heading("You were sent a link")
    expect(window.page).to_have_url(f"{gateway.origin}/admin")
    window.button("Sign in with this link").click()


def add_passkey(window: Window, name: str) -> None:
    window.heading("First steps")
    window.open("/admin/you")
    window.page.get_by_label("Name of the new passkey").fill(name)
    window.button("Add a passkey").click()
    expect(window.button(f"Remove the passkey {name}")).to_be_visible()


def sign_out(window: Window) -> None:
    """On a phone it stands in the menu."""
    menu = window.button("Open the list of pages")
    if menu.is_visible():
        menu.click()
    window.page.get_by_role("button", name="Sign out", exact=True).first.click()
    window.heading("Sign in")


def age_sessions(gateway: GatewayProcess) -> None:
    """Six minutes ago, as far as the gateway knows."""
    from tests.support.operator import Operator

    Operator(gateway).execute("UPDATE sessions SET created_at_ms = created_at_ms - 360000")


def test_the_owner_signs_in_by_link_makes_a_passkey_and_comes_back_with_it(
    named_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    window = with_authenticator(new_window(named_gateway, DESKTOP))
    window.open("/admin")
    window.heading("Sign in")
    follow_link(window, named_gateway, "owner")
    add_passkey(window, "Laptop")
    assert window.context.cookies()[0].get("httpOnly")
    assert window.page.evaluate("document.cookie") == ""

    sign_out(window)
    window.page.reload()
    window.button("Sign in with a passkey").click()
    window.sees("Signed in as owner (owner)")
    window.sees(re.compile("last used"))


def test_a_person_is_added_invited_given_a_role_and_disabled(
    named_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    window = with_authenticator(new_window(named_gateway, DESKTOP))
    follow_link(window, named_gateway, "owner")
    add_passkey(window, "Laptop")
    window.link("People").click()
    window.page.get_by_label("Login").fill("bob@example.org")
    window.page.get_by_label("Name", exact=True).fill("Bob")
    window.page.get_by_label("Role", exact=True).select_option("admin")
    window.button("Add a person").click()
    window.button("Make a sign-in link for Bob").click()
    link = window.page.locator(".note .mono").inner_text()

    bob = with_authenticator(new_window(named_gateway, PHONE))
    bob.page.goto(link)
    bob.button("Sign in with this link").click()
    bob.heading("First steps")
    bob.open("/admin/people")
    bob.page.get_by_label("Role of owner").select_option("member")
    expect(bob.page.get_by_role("alert")).to_contain_text("above yours")
    expect(bob.page.get_by_label("Role of owner")).to_have_value("owner")

    age_sessions(named_gateway)
    window.page.get_by_label("Role of Bob").select_option("viewer")
    window.heading("Is it still you?")
    window.page.get_by_role("dialog").get_by_role("button", name="Sign in with a passkey").click()
    expect(window.page.get_by_label("Role of Bob")).to_have_value("viewer")
    expect(window.page.get_by_role("dialog")).to_have_count(0)

    window.button("Disable Bob").click()
    window.heading("Disable Bob?")
    window.page.get_by_role("alertdialog").get_by_role("button", name="Disable").click()
    expect(window.button("Enable Bob")).to_be_visible()
    bob.page.reload()
    bob.heading("Sign in")


def test_signing_out_leaves_the_phone_app_of_the_same_browser_paired(
    named_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    window = with_authenticator(new_window(named_gateway))
    window.pair("Laptop")
    window.say("kept")
    follow_link(window, named_gateway, "owner")
    window.heading("First steps")
    sign_out(window)
    window.open("/chat")
    window.sees("kept")


def test_an_address_without_a_name_says_what_passkeys_need(gateway: GatewayProcess, new_window: NewWindow) -> None:
    window = new_window(gateway)
    window.may_lose_network = True
    window.open("/admin")
    window.sees(re.compile("an address with a name"))
    expect(window.button("Sign in with a passkey")).to_have_count(0)


def test_every_admin_page_is_accessible_in_both_themes(named_gateway: GatewayProcess, new_window: NewWindow) -> None:
    for login, role in (
        ("bob@example.org", "operator"),
        ("a.very.long.login.that.is.still.allowed@example.org", "viewer"),
    ):
        Operator(named_gateway).add_person(login, role)
    window = with_authenticator(new_window(named_gateway, DESKTOP))
    album = Album(window)
    window.open("/admin")
    window.heading("Sign in")
    album.add("admin-sign-in")
    window.page.goto(window.operator.link("owner"))
    window.heading("You were sent a link")
    album.add("admin-link")
    window.button("Sign in with this link").click()
    window.heading("Make a passkey")
    album.add("admin-welcome")
    add_passkey(window, "Laptop")
    window.open("/admin/people")
    window.button("Make a sign-in link for bob@example.org").click()
    window.sees(re.compile("It is shown this once"))
    album.add("admin-people")
    window.button("Disable bob@example.org").click()
    window.heading("Disable bob@example.org?")
    album.add("admin-disable")
    window.button("Cancel").click()
    age_sessions(named_gateway)
    window.button("Make a sign-in link for bob@example.org").click()
    window.heading("Is it still you?")
    album.add("admin-fresh")
    assert album.found == {}


def test_people_are_managed_by_keyboard_alone(named_gateway: GatewayProcess, new_window: NewWindow) -> None:
    window = with_authenticator(new_window(named_gateway, DESKTOP))
    follow_link(window, named_gateway, "owner")
    window.heading("First steps")
    window.open("/admin/people")
    window.heading("People")

    tab_to(window, "Login")
    window.page.keyboard.type("dave")
    tab_to(window, "Add a person")
    window.page.keyboard.press("Enter")
    expect(window.button("Disable dave")).to_be_visible()
    window.page.get_by_role("link", name="Skip to content").focus()
    tab_to(window, "Disable dave")
    window.page.keyboard.press("Enter")
    window.heading("Disable dave?")
    tab_to(window, "Disable")
    window.page.keyboard.press("Enter")
    expect(window.button("Enable dave")).to_be_visible()
