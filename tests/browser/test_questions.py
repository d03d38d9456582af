"""Questions on the phone: a form is filled in, a choice is made by keyboard alone, and what ended elsewhere ends here."""

import re
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from playwright.sync_api import expect

from tests.browser.conftest import NewWindow
from tests.browser.keys import tab_to
from tests.browser.test_pages import Album
from tests.browser.window import DESKTOP, Window
from tests.support.process import GatewayProcess

AT = "/api/v1/questions"
TRIP = {
    "kind": "form",
    "title": "Trip to Lisbon",
    "text": "Shall I book this?\nThe fare holds until noon.",
    "form_schema": {
        "type": "object",
        "properties": {
            "class": {"type": "string", "title": "Class", "enum": ["y", "j"], "enumNames": ["Economy", "Business"]},
            "bags": {"type": "integer", "title": "Bags", "minimum": 0, "maximum": 3, "default": 1},
            "extras": {"type": "array", "title": "Extras", "items": {"type": "string", "enum": ["Meal", "Seat"]}},
            "window": {"type": "boolean", "title": "Window seat"},
            "mail": {"type": "string", "title": "Ticket to", "format": "email"},
            "note": {"type": "string", "title": "Anything else?", "description": "For the airline."},
        },
        "required": ["class", "bags", "window", "mail"],
    },
}


def ask(window: Window, **question: Any) -> dict[str, Any]:
    return window.operator.request("POST", AT, json=question)


def find(window: Window, asked: dict[str, Any]) -> dict[str, Any]:
    return window.operator.request("GET", f"{AT}/{asked['question_id']}")


def test_a_form_is_filled_in_and_the_program_that_waits_has_the_answer(
    shared_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    window = new_window(shared_gateway)
    window.pair("Asked")
    window.is_live()
    asked = ask(window, **TRIP)
    with ThreadPoolExecutor(1) as apart:
        path, wait = f"{AT}/{asked['question_id']}", {"wait_s": 30}
        waiting: Future[Any] = apart.submit(lambda: window.operator.request("GET", path, params=wait))
        window.page.get_by_role("link", name="Question: Trip to Lisbon").click()
        window.heading("Trip to Lisbon")
        window.sees("The fare holds until noon.")
        send = window.button("Answer")
        expect(send).to_be_disabled()
        window.page.get_by_label("Business").check()
        window.page.get_by_label("Ticket to").fill("ada@example.org")
        window.page.get_by_label("Bags").fill("7")
        expect(send).to_be_disabled()
        window.page.get_by_label("Bags").fill("2")
        window.page.get_by_label("Seat", exact=True).check()
        window.page.get_by_label("Window seat").check()
        send.click()
        window.sees("Answered.")
        expect(window.page.locator("dl")).to_contain_text("Business")
        assert waiting.result(60)["answer"] == {
            "class": "j", "bags": 2, "extras": ["Seat"], "window": True, "mail": "ada@example.org",
        }  # fmt: skip
    window.page.get_by_role("button", name="Back").click()
    expect(window.page.get_by_text("Questions for you")).to_have_count(0)


def test_a_choice_is_made_by_keyboard_alone(shared_gateway: GatewayProcess, new_window: NewWindow) -> None:
    window = new_window(shared_gateway, DESKTOP)
    window.pair("Keys")
    asked = ask(window, kind="choice", text="Which one?", options=["red", "blue"])
    window.open("/approvals")
    keyboard = window.page.keyboard
    expect(window.link("Which one?")).to_be_visible()
    tab_to(window, "Which one?")
    keyboard.press("Enter")
    expect(window.page.get_by_role("heading", name="Question", exact=True)).to_be_visible()
    tab_to(window, "red")
    keyboard.press("ArrowDown")
    tab_to(window, "Answer")
    keyboard.press("Enter")
    window.sees("Answered.")
    assert find(window, asked)["answer"] == "blue"


def test_what_ended_elsewhere_ends_here_and_what_came_while_away_is_there(
    shared_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    window = new_window(shared_gateway)
    window.pair("Away")
    window.page.goto("about:blank")
    asked = ask(window, text="When is dinner?")
    window.open(f"/questions/{asked['question_id']}")
    window.sees("When is dinner?")
    window.operator.request("DELETE", f"{AT}/{asked['question_id']}")
    window.sees("The program took it back.")
    expect(window.button("Answer")).to_have_count(0)
    declined = ask(window, text="Why?")
    window.open(f"/questions/{declined['question_id']}")
    window.button("Decline").click()
    window.sees(re.compile("Declined"))
    assert find(window, declined)["state"] == "declined"
    window.open("/questions/qst_00000000000000000000000000")
    window.heading("This question is gone")


def test_questions_are_accessible_in_both_themes(shared_gateway: GatewayProcess, new_window: NewWindow) -> None:
    window = new_window(shared_gateway)
    window.pair("Looked at")
    album = Album(window)
    asked = ask(window, **TRIP)
    window.open("/approvals")
    window.sees("Questions for you")
    album.add("questions")
    window.open(f"/questions/{asked['question_id']}")
    window.heading("Trip to Lisbon")
    album.add("question")
    window.button("Decline").click()
    window.sees(re.compile("Declined"))
    album.add("question-declined")
    assert album.found == {}
