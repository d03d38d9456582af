"""Agents outside on the phone: who answers is chosen and shown, and what an agent does is seen while it does it."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import NewWindow, make_gateway
from tests.browser.keys import tab_to
from tests.browser.test_pages import Album
from tests.browser.window import DESKTOP, Window
from tests.support import acp_agent
from tests.support.process import GatewayProcess

HELPER = {"name": "helper", "kind": "acp", "command": [sys.executable, "-P", str(acp_agent.__file__)]}
BROKEN = {"name": "broken", "kind": "acp", "command": ["/nowhere/to/be/found"]}


@pytest.fixture(scope="module")
def staffed(tmp_path_factory: pytest.TempPathFactory, tls_folder: Path) -> Iterator[GatewayProcess]:
    """A gateway with two agents outside, of which one cannot run."""
    process = make_gateway(tmp_path_factory.mktemp("staffed"), tls_folder)
    process.environment["ENTOBOT_AGENT__BRIDGES"] = json.dumps([HELPER, BROKEN])
    yield process.start()
    process.close()


def choice(window: Window, name: str) -> Locator:
    return window.page.get_by_role("radio", name=re.compile(f"^{name}"))


def begin(window: Window, text: str) -> None:
    """A conversation with the helper."""
    window.open("/chat/new")
    choice(window, "helper").check()
    window.write(text)


def test_who_answers_is_chosen_and_stays_to_be_seen(staffed: GatewayProcess, new_window: NewWindow) -> None:
    window = new_window(staffed)
    window.pair("Chooser")
    expect(choice(window, "This gateway's own")).to_be_checked()
    expect(choice(window, "broken")).to_have_accessible_name(re.compile("does not answer"))
    begin(window, "hello")
    expect(window.answers).to_have_text(re.compile("heard: hello"))
    window.sees("Agent: helper")
    window.write("again")
    expect(window.answers).to_have_count(2)
    expect(window.answers.last).to_have_text(re.compile("heard: again"))
    window.page.reload()
    window.sees("Agent: helper")
    window.open("/")
    expect(window.link(re.compile("helper · heard: again"))).to_be_visible()
    window.open("/chat/new")
    window.say("who are you?")  # the gateway's own says it back
    window.sees("Agent: This gateway's own")


def test_an_agent_that_does_not_answer_is_shown_as_such(staffed: GatewayProcess, new_window: NewWindow) -> None:
    window = new_window(staffed)
    window.pair("Patient")
    choice(window, "broken").check()
    window.sees("broken does not answer now.")
    window.write("are you there?")
    window.sees(re.compile("No answer this time: broken does not run"))
    window.sees("Agent: broken · does not answer")


def test_who_answers_is_asked_of_nobody_where_there_is_one_agent(
    shared_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    window = new_window(shared_gateway, DESKTOP)
    with window.page.expect_response("**/api/v1/agents"):
        window.pair("Alone")
    window.say("hello")
    assert window.page.get_by_text("Agent:").count() == 0
    window.link("New chat").click()
    window.heading("What can I do for you?")
    assert window.page.get_by_text("Who answers?").count() == 0


def test_what_an_agent_thinks_plans_and_changes_is_seen_while_it_works(
    staffed: GatewayProcess, new_window: NewWindow
) -> None:
    window = new_window(staffed)
    window.pair("Watcher")
    page = window.page
    begin(window, "work")
    plan = page.get_by_role("region", name="Plan")
    expect(plan).to_contain_text("1 of 3 done")
    expect(plan.get_by_role("listitem")).to_have_text(
        [re.compile("Done: heat the oven"), re.compile("In progress: bake"), re.compile("To do: eat")]
    )
    expect(plan.locator("[aria-current=step]")).to_contain_text("bake")
    changes = page.get_by_role("list", name="Change of /home/ada/cake.txt")
    expect(changes.get_by_role("listitem").filter(has_text="added:")).to_have_text(re.compile("step nine"))
    expect(changes).to_contain_text("6 lines as before")
    expect(changes).not_to_contain_text("step 2")
    window.sees("Edit cake.txt")
    expect(page.locator(".line").filter(has_text="Taste")).to_contain_text("failed")
    thought = page.get_by_text("The oven first.")
    expect(page.get_by_text("Thinking…")).to_be_visible()
    expect(thought).to_be_hidden()
    page.get_by_text("Thought", exact=True).click()
    expect(thought).to_have_text("The oven first.\n<b>Then</b> the cake.")
    window.button("Stop answering").click()
    expect(page.get_by_text("Thinking…")).to_have_count(0)
    expect(page.get_by_text("Thought", exact=True)).to_have_count(2)
    expect(plan).to_be_visible()


def test_an_agent_is_chosen_and_its_thoughts_are_opened_by_keyboard_alone(
    staffed: GatewayProcess, new_window: NewWindow
) -> None:
    window = new_window(staffed, DESKTOP)
    window.pair("Keyboard")
    window.open("/chat/new")
    expect(choice(window, "helper")).to_be_visible()
    keyboard = window.page.keyboard
    message = window.page.get_by_label("Message")
    expect(message).to_be_focused()
    tab_to(window, "This gateway's own")
    keyboard.press("ArrowDown")
    expect(choice(window, "helper")).to_be_checked()
    stops = tab_to(window, "Attach files")
    assert stops == ["Attach files"]
    while not message.evaluate("field => field === document.activeElement"):
        keyboard.press("Tab")
    keyboard.type("show")
    keyboard.press("Enter")
    expect(window.answers).to_have_text(re.compile("done"))
    tab_to(window, "Thought")
    keyboard.press("Enter")
    window.sees("let me see")


def test_agents_and_their_steps_are_accessible_in_both_themes(staffed: GatewayProcess, new_window: NewWindow) -> None:
    window = new_window(staffed)
    window.pair("Looked at")
    album = Album(window)
    choice(window, "broken").check()
    window.sees("broken does not answer now.")
    album.add("agent-choice")
    begin(window, "work")
    expect(window.page.get_by_text("Thinking…")).to_be_visible()
    window.page.get_by_text("Thought", exact=True).click()
    window.page.get_by_label("Message").blur()
    album.add("agent-steps")
    window.button("Stop answering").click()
    expect(window.page.get_by_text("Thinking…")).to_have_count(0)
    window.write("edit brown sugar")
    expect(window.asked).to_be_visible()
    album.add("agent-asks")
    window.asked.click()
    window.button("Deny").click()
    window.sees("Denied")
    assert album.found == {}
