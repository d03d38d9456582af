"""The dashboard's pages: devices found and changed, a phone paired from the dialog, the log searched and verified."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from entobot.web.authentication import SESSION_COOKIE
from tests.browser.conftest import NewWindow, make_gateway
from tests.browser.test_admin import add_passkey, age_sessions, with_authenticator
from tests.browser.test_pages import Album
from tests.browser.window import DESKTOP, PHONE, Operator, Size, Window
from tests.support.browser import Browser
from tests.support.process import GatewayProcess

NAMES = ("Ada's phone", "Kitchen tablet", "Lamp", "A name that is as long as a name of a device may be, that is 64")


@pytest.fixture
def gateway_with_devices(tmp_path: Path, tls_folder: Path) -> Iterator[GatewayProcess]:
    process = make_gateway(tmp_path, tls_folder, is_named=True)
    process.start()
    for name in NAMES:
        Operator(process).add_key(name)
    yield process
    process.close()


def signed_in(new_window: NewWindow, gateway: GatewayProcess, login: str = "owner", size: Size = DESKTOP) -> Window:
    """By a link that was followed before; that a page can do that is a story of its own."""
    window = with_authenticator(new_window(gateway, size))
    before = Browser(gateway)
    before.follow(window.operator.link(login))
    assert before.cookie
    cookie = {"name": SESSION_COOKIE, "value": before.cookie, "url": gateway.origin, "secure": True, "httpOnly": True}
    window.context.add_cookies([cookie])  # pyright: ignore[reportArgumentType]  a TypedDict of the same keys
    window.open("/admin/welcome")
    window.heading("First steps")
    return window


def shows_names(window: Window, names: list[str]) -> None:
    """In this order, now or soon: how many there are does not change with it."""
    expect(window.page.locator("tbody th a")).to_have_text(names)


def test_devices_are_searched_filtered_and_sorted_at_the_gateway(
    gateway_with_devices: GatewayProcess, new_window: NewWindow
) -> None:
    window = signed_in(new_window, gateway_with_devices)
    window.link("Devices").click()
    window.heading("Devices")
    window.sees("4 of 4")
    shows_names(window, list(reversed(NAMES)))
    window.page.get_by_label("Search by name or id").fill("a")
    window.sees("4 of 4")
    window.page.get_by_label("Search by name or id").fill("TABLET")
    window.sees("1 of 1")
    expect(window.page).to_have_url(re.compile(r"q=TABLET"))
    window.page.reload()
    window.sees("1 of 1")
    shows_names(window, ["Kitchen tablet"])
    window.page.get_by_label("State").select_option("suspended")
    window.sees("No device is like that. Take a filter away.")
    window.page.get_by_label("Search by name or id").fill("")
    window.page.get_by_label("State").select_option("")
    window.page.get_by_label("Order").select_option("name")
    window.sees("4 of 4")
    shows_names(window, sorted(NAMES))


def test_several_devices_are_suspended_and_revoked_at_once(
    gateway_with_devices: GatewayProcess, new_window: NewWindow
) -> None:
    window = signed_in(new_window, gateway_with_devices)
    window.page.goto(f"{window.origin}/admin/devices")
    for name in NAMES[:2]:
        window.page.get_by_label(f"Choose {name}").check()
    window.sees("2 devices chosen")
    window.button("Suspend").click()
    window.page.get_by_role("alertdialog").get_by_role("button", name="Suspend").click()
    window.sees("2 devices are suspended.")
    assert window.operator.device(NAMES[0])["status"] == "suspended"
    for name in NAMES[:2]:
        window.page.get_by_label(f"Choose {name}").check()
    window.button("Revoke").click()
    revoke = window.page.get_by_role("alertdialog").get_by_role("button", name="Revoke")
    expect(revoke).to_be_disabled()
    window.page.get_by_label("Type 2 to go on").fill("2")
    revoke.click()
    window.sees("2 devices are revoked.")
    assert [window.operator.device(name)["status"] for name in NAMES] == ["revoked", "revoked", "active", "active"]


def test_a_device_is_looked_at_renamed_labelled_suspended_and_let_back(
    gateway_with_devices: GatewayProcess, new_window: NewWindow
) -> None:
    window = signed_in(new_window, gateway_with_devices)
    window.page.goto(f"{window.origin}/admin/devices/{window.operator.device('Lamp')['device_id']}")
    window.heading("Lamp")
    window.sees("an API key, which works for whoever has it")
    window.sees("It is not connected.")
    window.page.get_by_label("Name", exact=True).fill("Desk lamp")
    window.button("Rename").click()
    window.heading("Desk lamp")
    window.page.get_by_label("Type, for policies").fill("lamp")
    window.page.get_by_label("Tags, separated by spaces").fill("desk, office")
    window.button("Save type and tags").click()
    expect(window.page.locator("dd", has_text="lamp").filter(has_text="desk").filter(has_text="office")).to_be_visible()
    expect(window.button("Save type and tags")).to_be_disabled()
    window.button("Suspend").click()
    window.heading("Suspend Desk lamp?")
    window.page.get_by_role("alertdialog").get_by_role("button", name="Suspend").click()
    window.button("Reactivate").click()
    expect(window.button("Suspend")).to_be_visible()
    expect(window.page.locator(".event", has_text="device.suspended")).to_be_visible()


def test_a_phone_is_paired_from_the_dialog_with_the_six_digits(
    gateway_with_devices: GatewayProcess, new_window: NewWindow
) -> None:
    window = signed_in(new_window, gateway_with_devices)
    window.page.goto(f"{window.origin}/admin/invites")
    window.page.get_by_role("main").get_by_role("button", name="Pair a device").click()
    window.page.get_by_label("Label").fill("for Ada")
    window.button("Make an invite").click()
    window.sees("Waiting for a device …")
    assert window.page.get_by_role("img", name="QR code with the pairing link").is_visible()
    link = window.page.get_by_label("Pairing link").inner_text()

    phone = new_window(gateway_with_devices, PHONE)
    phone.page.goto(link)
    phone.page.get_by_label("Name of this device").fill("Ada's new phone")
    phone.button("Pair").click()
    digits = phone.digits()
    expect(window.page.get_by_role("dialog")).to_contain_text("Ada's new phone")
    window.page.get_by_label("The six digits that the phone shows").fill(digits)
    window.button("Pair it").click()
    window.sees("Ada's new phone is paired.")
    phone.is_in_a_new_chat()
    window.link("Look at it").click()
    window.heading("Ada's new phone")
    window.sees("a key of its own, which never leaves it")
    expect(window.page.get_by_text("websocket")).to_be_visible()


def test_an_invite_that_nobody_uses_ends_with_the_dialog(
    gateway_with_devices: GatewayProcess, new_window: NewWindow
) -> None:
    window = signed_in(new_window, gateway_with_devices)
    window.page.goto(f"{window.origin}/admin/invites")
    window.page.get_by_role("main").get_by_role("button", name="Pair a device").click()
    window.page.get_by_label("How").select_option("code")
    window.button("Make an invite").click()
    expect(window.page.get_by_label("Pairing code")).to_have_text(re.compile(r"^[A-Z0-9-]{8,}$"))
    window.button("Stop").click()
    expect(window.page.get_by_role("cell", name="cancelled")).to_be_visible()


def test_a_token_is_shown_once(gateway_with_devices: GatewayProcess, new_window: NewWindow) -> None:
    window = signed_in(new_window, gateway_with_devices)
    window.page.goto(f"{window.origin}/admin/tokens")
    window.page.get_by_label("Name", exact=True).fill("Backup script")
    window.page.get_by_label("metrics").check()
    window.button("Make a token").click()
    token = window.page.get_by_label("Token", exact=True).inner_text()
    assert token.startswith("ent_key_")
    assert set(window.operator.device("Backup script")["scopes"]) == {"chat", "metrics"}
    window.page.reload()
    window.link("Backup script").first.wait_for()
    assert token not in window.page.content()


def test_the_log_is_searched_and_verified(gateway_with_devices: GatewayProcess, new_window: NewWindow) -> None:
    window = signed_in(new_window, gateway_with_devices)
    window.link("Audit log").click()
    window.heading("Audit log")
    window.page.get_by_label("Event, such as device.").fill("api_key.")
    window.sees("4 shown")
    events = window.page.locator(".event").all_inner_texts()
    assert events == ["api_key.created"] * 4
    window.page.locator("summary").first.click()
    window.sees("Hash")
    window.button("Verify the chain").click()
    window.sees(re.compile(r"entries checked: the chain is intact"))


def test_the_log_is_exported_after_a_fresh_sign_in(
    gateway_with_devices: GatewayProcess, new_window: NewWindow, tmp_path: Path
) -> None:
    window = signed_in(new_window, gateway_with_devices)
    add_passkey(window, "Laptop")
    window.page.goto(f"{window.origin}/admin/audit?event=api_key.created")
    window.heading("Audit log")
    age_sessions(gateway_with_devices)
    window.button("Export JSONL").click()
    window.heading("Is it still you?")
    with window.page.expect_download() as download:
        window.page.get_by_role("dialog").get_by_role("button", name="Sign in with a passkey").click()
    download.value.save_as(tmp_path / "audit.jsonl")
    events = [json.loads(line).get("event") for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert events.count("api_key.created") == 4
    window.heading("Audit log")


def test_the_overview_shows_numbers_the_posture_and_what_happens(
    gateway_with_devices: GatewayProcess, new_window: NewWindow
) -> None:
    window = signed_in(new_window, gateway_with_devices)
    window.page.get_by_role("navigation").get_by_role("link", name="Overview").click()
    expect(window.link(re.compile(r"4\s*devices"))).to_be_visible()
    expect(window.page.get_by_role("meter", name="Posture")).to_be_visible()
    window.sees(re.compile("The built-in echo agent answers"))
    asked: list[str] = []
    window.page.on("request", lambda request: asked.append(request.url))
    window.operator.add_key("Added meanwhile")
    expect(window.link(re.compile(r"5\s*devices"))).to_be_visible()
    expect(window.page.locator("details", has_text="Added meanwhile").first).to_be_visible()
    assert len(asked) < 30, "a page that asks again because of what it was answered asks without end"
    expect(window.page.get_by_role("alert")).to_have_count(0)


def test_a_page_that_is_opened_while_the_network_changes_is_asked_for_again(
    gateway_with_devices: GatewayProcess, new_window: NewWindow
) -> None:
    window = signed_in(new_window, gateway_with_devices)
    window.may_lose_network = True
    window.page.route("**/api/v1/me", lambda route: route.abort("connectionreset"), times=2)
    window.open("/admin/tokens")
    window.heading("API tokens")
    expect(window.page.get_by_role("alert")).to_have_count(0)


def test_metrics_are_drawn_and_told_in_words_and_tables(
    gateway_with_devices: GatewayProcess, new_window: NewWindow
) -> None:
    window = signed_in(new_window, gateway_with_devices)
    window.link("Metrics").click()
    window.heading("Metrics")
    chart = window.page.locator("figure", has_text="HTTP requests")
    expect(chart.get_by_text(re.compile(r"Now .* highest .* at "))).to_be_visible()
    expect(chart.locator("canvas")).to_be_visible()
    chart.get_by_text("Show as table").click()
    expect(chart.get_by_role("row").nth(1)).to_contain_text("/s")
    window.page.get_by_label("Search by name or meaning").fill("entobot_build_info")
    expect(window.page.locator(".table tbody tr")).to_have_count(1)


def test_log_lines_are_searched(gateway_with_devices: GatewayProcess, new_window: NewWindow) -> None:
    window = signed_in(new_window, gateway_with_devices)
    window.operator.request("PUT", "/api/v1/settings/bot", json={"temperature": 0.5})
    window.link("Logs").click()
    window.heading("Logs")
    window.page.get_by_label("Search in the lines").fill("settings.changed")
    expect(window.page.locator("main ol li")).to_have_count(1)
    window.page.get_by_label("From level").select_option("error")
    window.sees("No line is like that.")


def test_pages_are_reached_by_keys(gateway_with_devices: GatewayProcess, new_window: NewWindow) -> None:
    window = signed_in(new_window, gateway_with_devices)
    page = window.page
    page.keyboard.press("g")
    page.keyboard.press("d")
    window.heading("Devices")
    page.keyboard.press("/")
    page.keyboard.type("lamp")
    window.sees("1 of 1")
    page.get_by_role("link", name="Skip to content").focus()
    page.keyboard.press("?")
    window.heading("Keyboard shortcuts")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    page.keyboard.type("audit")
    page.keyboard.press("Enter")
    window.heading("Audit log")


def test_a_viewer_sees_what_viewers_may_and_no_button_that_changes_anything(
    gateway_with_devices: GatewayProcess, new_window: NewWindow
) -> None:
    Operator(gateway_with_devices).add_person("carol", "viewer")
    window = signed_in(new_window, gateway_with_devices, "carol")
    shown = window.page.get_by_role("navigation").get_by_role("link").all_inner_texts()
    links = [re.split(r"\n|\d", text)[0].strip() for text in shown]  # without the number of alerts
    assert links == [
        "Overview",
        "Devices",
        "Updates",
        "Bridges",
        "Policies",
        "Alerts",
        "Notifications",
        "Audit log",
        "Metrics",
        "First steps",
        "About",
        "You",
    ]
    window.link("Devices").click()
    window.link("Lamp").click()
    window.heading("Lamp")
    for name in ("Suspend", "Revoke", "Rename"):
        expect(window.button(name)).to_have_count(0)
    window.page.goto(f"{window.origin}/admin/people")
    window.sees(re.compile("does not hold the permission “users.manage”"))


@pytest.mark.parametrize(("name", "size"), [("phone", PHONE), ("desktop", DESKTOP)])
def test_every_page_of_the_dashboard_is_accessible_in_both_themes(
    gateway_with_devices: GatewayProcess, new_window: NewWindow, name: str, size: Size
) -> None:
    gateway = gateway_with_devices
    window = signed_in(new_window, gateway, size=size)
    album, page = Album(window, name), window.page
    album.add("admin-first-steps")
    lamp = window.operator.device("Lamp")["device_id"]
    window.operator.invite(label="for Ada")
    for path, heading in (
        ("", "Overview"),
        ("/devices", "Devices"),
        (f"/devices/{lamp}", "Lamp"),
        ("/invites", "Invites"),
        ("/approvals", "Approvals"),
        ("/conversations", "Conversations"),
        ("/people", "People"),
        ("/tokens", "API tokens"),
        ("/things", "Things"),
        ("/automations", "Automations"),
        ("/enrolment", "Enrolment keys"),
        ("/updates", "Updates"),
        ("/bridges", "Bridges"),
        ("/policies", "Policies"),
        ("/notifications", "Notifications"),
        ("/audit", "Audit log"),
        ("/metrics", "Metrics"),
        ("/logs", "Logs"),
        ("/about", "About"),
        ("/you", re.compile("passkey")),
        ("/nowhere-at-all", "There is nothing here"),
    ):
        window.turn_to(f"/admin{path}")
        window.heading(heading)
        window.is_quiet()
        album.add(
            "admin"
            + (path.split("/")[1] and "-" + path.split("/")[1] if path else "-overview")
            + ("-one" if lamp in path else "")
        )
    window.turn_to("/admin/devices")
    page.get_by_role("button", name="Actions for Lamp").click()
    album.add("admin-devices-menu")
    page.keyboard.press("Escape")
    page.get_by_label("Choose Lamp").check()
    window.button("Revoke").click()
    window.heading("Revoke Lamp?")
    album.add("admin-revoke")
    window.button("Cancel").click()
    page.get_by_role("main").get_by_role("button", name="Pair a device").click()
    album.add("admin-pair")
    window.button("Make an invite").click()
    window.sees("Waiting for a device …")
    album.add("admin-pair-qr")
    window.button("Stop").click()
    page.keyboard.press("?")
    window.heading("Keyboard shortcuts")
    album.add("admin-keys")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    album.add("admin-palette")
    assert album.found == {}, json.dumps(album.found, indent=1)
