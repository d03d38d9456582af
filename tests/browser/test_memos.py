"""Notes, to-dos and reminders on the phone: added, ticked off, taken back, and read without the gateway."""

import re
from typing import Any

from playwright.sync_api import Route, expect

from tests.browser.conftest import NewWindow
from tests.browser.keys import tab_to
from tests.browser.test_pages import Album
from tests.browser.window import DESKTOP, Window
from tests.support.process import GatewayProcess

AT = "/api/v1/memos"
ZONE = "America/New_York"


def kept(window: Window, text: str) -> list[dict[str, Any]]:
    """What the gateway has of this text."""
    return [row for row in window.operator.request("GET", AT)["rows"] if row["text"] == text]


def opened(window: Window) -> None:
    window.page.get_by_role("navigation").get_by_role("link", name="Notes").click()
    window.heading("Notes and reminders")
    window.heading("To-dos")


def told(window: Window, text: str) -> None:
    """Said when the gateway has answered; a box is ticked before."""
    expect(window.page.get_by_role("status").filter(has_text=text)).to_have_count(1)


def item(window: Window, text: str) -> Any:
    return window.page.get_by_role("listitem").filter(has_text=text)


def test_a_to_do_is_added_ticked_off_and_taken_back(shared_gateway: GatewayProcess, new_window: NewWindow) -> None:
    window = new_window(shared_gateway)
    window.pair("Busy")
    window.open("/")
    opened(window)
    window.page.get_by_label("Text").fill("  water   the tomatoes ")
    window.button("Add").click()
    tick = window.page.get_by_role("checkbox", name="water the tomatoes")
    expect(tick).not_to_be_checked()
    expect(window.page.get_by_label("Text")).to_have_value("")
    (row,) = kept(window, "water the tomatoes")
    assert row["kind"] == "todo"
    tick.click()
    told(window, "Done")
    expect(tick).to_be_checked()
    assert kept(window, "water the tomatoes") == []
    news = {"kind": "notice", "title": "News", "body": "", "priority": "normal"}
    with window.page.expect_response(lambda answer: answer.url.endswith(AT)):  # the page reads its list anew
        window.operator.request("POST", "/api/v1/notifications", json=news)
    tick.click()
    told(window, "Added: water the tomatoes")
    expect(tick).not_to_be_checked()
    assert len(kept(window, "water the tomatoes")) == 1
    tick.click()
    told(window, "Done")
    expect(tick).to_be_checked()
    window.page.reload()
    window.heading("To-dos")
    expect(tick).to_have_count(0)


def test_a_to_do_that_is_taken_back_before_the_gateway_has_answered_stays(
    shared_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    window = new_window(shared_gateway)
    window.pair("In a hurry")
    window.operator.request("POST", AT, json={"kind": "todo", "text": "feed the cat"})
    window.open("/memos")
    tick = window.page.get_by_role("checkbox", name="feed the cat")
    held: list[Route] = []
    window.page.route(f"**{AT}/*", lambda route: held.append(route), times=1)  # noqa: PLW0108  it is inspected
    with window.page.expect_request(f"**{AT}/*"):
        tick.click()
    tick.click()
    with window.page.expect_request(lambda request: request.url.endswith(AT) and request.method == "POST"):
        held.pop().continue_()
    told(window, "Added: feed the cat")
    expect(tick).not_to_be_checked()
    assert len(kept(window, "feed the cat")) == 1


def test_a_reminder_is_told_at_the_time_of_the_persons_zone(
    shared_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    window = new_window(shared_gateway, timezone_id=ZONE)
    window.pair("Far away")
    window.open("/memos")
    window.page.get_by_label("Reminder", exact=True).check()
    window.sees(f"Time in {ZONE}.")
    window.page.get_by_label("Text").fill("call the plumber")
    when = window.page.get_by_label("When")
    when.fill("2020-01-15T09:30")
    window.button("Add").click()
    assert kept(window, "call the plumber") == []
    when.fill("2035-01-15T09:30")
    window.button("Add").click()
    expect(item(window, "call the plumber")).to_contain_text("Jan 15, 2035, 9:30")
    (row,) = kept(window, "call the plumber")
    assert (row["kind"], row["due_at"]) == ("reminder", "2035-01-15T14:30:00.000Z")
    window.button("Remove: call the plumber").click()
    expect(window.button("Undo: call the plumber")).to_be_visible()
    assert kept(window, "call the plumber") == []
    window.button("Undo: call the plumber").click()
    expect(window.button("Remove: call the plumber")).to_be_visible()
    (again,) = kept(window, "call the plumber")
    assert again["due_at"] == row["due_at"]


def test_without_the_gateway_the_notes_can_be_read(shared_gateway: GatewayProcess, new_window: NewWindow) -> None:
    window = new_window(shared_gateway)
    window.may_lose_network = True
    window.pair("Underground")
    window.operator.request("POST", AT, json={"kind": "note", "text": "the key is under the mat"})
    window.open("/memos")
    expect(item(window, "the key is under the mat")).to_be_visible()
    window.becomes("navigator.serviceWorker.ready.then(() => true)")
    window.context.set_offline(True)
    window.sees(re.compile("The gateway is not reached. You can read"))
    window.page.reload()
    expect(item(window, "the key is under the mat")).to_be_visible()
    window.sees(re.compile("The gateway is not reached. You can read"))
    expect(window.page.get_by_label("Text")).to_be_disabled()
    expect(window.button("Remove: the key is under the mat")).to_be_disabled()
    window.context.set_offline(False)
    expect(window.page.get_by_label("Text")).to_be_enabled()


def test_notes_are_kept_by_keyboard_alone(shared_gateway: GatewayProcess, new_window: NewWindow) -> None:
    window = new_window(shared_gateway, DESKTOP)
    window.pair("Keys only")
    keyboard = window.page.keyboard
    window.open("/memos")
    window.heading("To-dos")
    tab_to(window, "To-do")
    keyboard.press("ArrowRight")
    keyboard.press("ArrowRight")
    tab_to(window, "Text")
    keyboard.type("seven by nine")
    keyboard.press("Enter")
    expect(item(window, "seven by nine")).to_be_visible()
    expect(window.page.get_by_label("Text")).to_be_focused()
    tab_to(window, "Remove: seven by nine")
    keyboard.press("Enter")
    undo = window.button("Undo: seven by nine")
    expect(undo).to_be_focused()
    keyboard.press("Enter")
    expect(window.button("Remove: seven by nine")).to_be_focused()
    assert kept(window, "seven by nine")[0]["kind"] == "note"


def test_notes_are_accessible_in_both_themes(shared_gateway: GatewayProcess, new_window: NewWindow) -> None:
    window = new_window(shared_gateway)
    window.pair("Looked at")
    for made in (
        {"kind": "todo", "text": "bring the old paint to the collection point, before they close for the winter"},
        {"kind": "todo", "text": "buy milk"},
        {"kind": "reminder", "text": "dentist", "due_at": "2035-06-01T08:00:00Z"},
        {"kind": "note", "text": "the key is under the mat"},
    ):
        window.operator.request("POST", AT, json=made)
    window.open("/memos")
    window.page.get_by_role("checkbox", name="buy milk").last.click()
    window.page.get_by_label("Reminder", exact=True).check()
    window.sees("dentist")
    album = Album(window)
    album.add("memos")
    assert album.found == {}
