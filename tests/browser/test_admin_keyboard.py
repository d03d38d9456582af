"""The dashboard without touching a pointer: pair, revoke, verify. People are in test_admin.py."""

from playwright.sync_api import expect

from tests.browser.conftest import NewWindow
from tests.browser.keys import tab_to
from tests.browser.test_admin_pages import gateway_with_devices, signed_in
from tests.browser.window import PHONE, Window
from tests.support.process import GatewayProcess

__all__ = ["gateway_with_devices"]


def go(window: Window, key: str, heading: str) -> None:
    window.page.keyboard.press("g")
    window.page.keyboard.press(key)
    window.heading(heading)


def test_a_phone_is_paired_by_keyboard_alone(gateway_with_devices: GatewayProcess, new_window: NewWindow) -> None:
    window = signed_in(new_window, gateway_with_devices)
    keyboard = window.page.keyboard
    go(window, "i", "Invites")
    tab_to(window, "Pair a device")
    keyboard.press("Enter")
    tab_to(window, "Make an invite")
    keyboard.press("Enter")
    window.sees("Waiting for a device …")
    phone = new_window(gateway_with_devices, PHONE)
    phone.page.goto(window.page.get_by_label("Pairing link").inner_text())
    phone.page.get_by_label("Name of this device").fill("Ada's new phone")
    phone.button("Pair").click()
    digits = phone.digits()
    expect(window.page.get_by_role("dialog")).to_contain_text("Ada's new phone")
    if not window.page.get_by_label("The six digits that the phone shows").evaluate(
        "(it) => it === document.activeElement"
    ):
        tab_to(window, "The six digits that the phone shows")
    keyboard.type(digits)
    tab_to(window, "Pair it")
    keyboard.press("Enter")
    window.sees("Ada's new phone is paired.")
    phone.is_in_a_new_chat()
    keyboard.press("Escape")
    expect(window.page.get_by_role("dialog")).to_have_count(0)
    expect(window.page.get_by_role("main").get_by_role("button", name="Pair a device")).to_be_focused()


def test_a_device_is_revoked_by_keyboard_alone(gateway_with_devices: GatewayProcess, new_window: NewWindow) -> None:
    window = signed_in(new_window, gateway_with_devices)
    keyboard = window.page.keyboard
    go(window, "d", "Devices")
    keyboard.press("/")
    keyboard.type("lamp")
    window.sees("1 of 1")
    tab_to(window, "Actions for Lamp")
    keyboard.press("Enter")
    item = window.page.get_by_role("menuitem", name="Revoke")
    expect(item).to_be_visible()
    for _ in range(6):
        if item.evaluate("(it) => it === document.activeElement"):
            break
        keyboard.press("ArrowDown")
    keyboard.press("Enter")
    window.heading("Revoke Lamp?")
    expect(window.button("Cancel")).to_be_focused()
    tab_to(window, "Revoke")
    keyboard.press("Enter")
    window.sees("1 device is revoked.")
    assert window.operator.device("Lamp")["status"] == "revoked"


def test_the_log_is_verified_by_keyboard_alone(gateway_with_devices: GatewayProcess, new_window: NewWindow) -> None:
    window = signed_in(new_window, gateway_with_devices)
    go(window, "a", "Audit log")
    tab_to(window, "Verify the chain")
    window.page.keyboard.press("Enter")
    told = window.page.get_by_role("status").filter(has_text="the chain is intact")
    expect(told).to_be_visible()
