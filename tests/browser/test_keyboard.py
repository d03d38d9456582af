"""Pair, chat and decide without touching a pointer."""

from playwright.sync_api import expect

from tests.browser.conftest import NewWindow
from tests.browser.keys import tab_to
from tests.browser.window import DESKTOP
from tests.support.process import GatewayProcess


def test_pair_chat_and_approve_by_keyboard_alone(shared_gateway: GatewayProcess, new_window: NewWindow) -> None:
    window = new_window(shared_gateway, DESKTOP)
    keyboard = window.page.keyboard
    invite = window.operator.invite()
    window.page.goto(invite["url"])
    window.heading("Pair with Kitchen")
    assert tab_to(window, "Pair")[0] == "Skip to content"
    keyboard.press("Enter")
    window.operator.confirm(invite["invite_id"], window.digits())
    window.is_in_a_new_chat()

    expect(window.page.get_by_label("Message")).to_be_focused()
    keyboard.type("!note buy milk")
    keyboard.press("Shift+Enter")
    keyboard.type("and eggs")
    expect(window.page.get_by_label("Message")).to_have_value("!note buy milk\nand eggs")
    keyboard.press("Enter")
    expect(window.asked).to_be_visible()
    tab_to(window, "Approval needed")
    keyboard.press("Enter")
    window.heading("What will be done")
    expect(window.page.locator(".args")).to_contain_text("↵")  # a line break is made visible
    stops = tab_to(window, "Approve")
    assert stops.index("Deny") == len(stops) - 2, "the safe answer comes first, and nothing stands between"
    keyboard.press("Enter")
    window.sees("Approved. The agent goes on.")
    expect(window.page.locator("[role=status][tabindex='-1']")).to_be_focused()


def test_the_skip_link_and_a_dialog_keep_the_focus_in_order(
    shared_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    window = new_window(shared_gateway, DESKTOP)
    window.pair("Keyboard")
    window.open("/device")
    window.heading("This device")
    tab_to(window, "Skip to content")
    window.page.keyboard.press("Enter")
    expect(window.page.locator("#content")).to_be_focused()
    tab_to(window, "Unpair this device")
    window.page.keyboard.press("Enter")
    expect(window.page.get_by_role("alertdialog")).to_be_visible()
    for _ in range(6):  # round and round inside the dialog
        window.page.keyboard.press("Tab")
        assert window.page.evaluate(
            "document.activeElement.closest('dialog') !== null || document.activeElement === document.body"
        )
    window.page.keyboard.press("Escape")
    expect(window.button("Unpair this device")).to_be_focused()
