"""The dashboard while the gateway is slow or away: pressed twice, written on meanwhile, asked again."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import NewWindow, make_gateway
from tests.browser.test_admin_pages import signed_in
from tests.browser.window import DESKTOP, FRAMES, Window, ask
from tests.support.process import GatewayProcess

AGAIN = 3
"""So often a page reads before it tells anybody that the gateway is away."""
POLICY = "permit (principal, action, resource);"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, tls_folder: Path) -> Iterator[GatewayProcess]:
    process = make_gateway(tmp_path_factory.mktemp("haste"), tls_folder, is_named=True)
    process.environment |= {"OPENAI_BASE_URL": "", "ENTOBOT_SIGNIN__PASSWORDS": "true"}
    yield process.start()
    process.close()


class Held:
    """The requests of one kind, none of which the gateway has got yet."""

    def __init__(self, window: Window, method: str, path: str) -> None:
        self.routes: list[Route] = []
        self._window, self._method = window, method
        self._is_over = False
        window.page.route(path, self._hold)

    def _hold(self, route: Route) -> None:
        if self._is_over or route.request.method != self._method:
            route.fallback()
        else:
            self.routes.append(route)

    def comes(self) -> None:
        self._window.until(lambda: self.routes, "nothing is asked")

    def let_go(self) -> None:
        self._is_over = True
        for route in self.routes:
            route.continue_()


def is_asked_once(window: Window, button: str, path: str, method: str = "POST") -> None:
    """By two clicks, the second of which comes before anything was answered."""
    held = Held(window, method, path)
    window.button(button).last.click()
    held.comes()
    window.button(button).last.click()
    ask(window.page, FRAMES)
    count = len(held.routes)
    held.let_go()
    window.is_quiet()
    assert count == 1, path


def test_what_is_made_by_two_clicks_is_made_once(gateway: GatewayProcess, new_window: NewWindow) -> None:
    window = signed_in(new_window, gateway)
    page = window.page
    window.open("/admin/tokens")
    page.get_by_label("Name", exact=True).fill("Twice")
    is_asked_once(window, "Make a token", "**/api/v1/api-keys")
    assert window.operator.device("Twice")
    window.open("/admin/enrolment")
    page.get_by_label("Name", exact=True).fill("Twice")
    is_asked_once(window, "Make the key", "**/api/v1/enrolment-keys")
    assert len(gateway.ask("enrolment", "list")) == 1
    window.open("/admin/people")
    page.get_by_label("Login").fill("twice")
    is_asked_once(window, "Add a person", "**/api/v1/users")
    expect(page.get_by_role("alert")).to_have_count(0)
    window.open("/admin/settings")
    page.get_by_label("Keep events").fill("9000")
    window.button("Review changes").click()
    is_asked_once(window, "Save", "**/api/v1/settings", "PATCH")
    window.sees("1 change is saved.")
    window.open("/admin/invites")
    page.get_by_role("main").get_by_role("button", name="Pair a device").click()
    is_asked_once(window, "Make an invite", "**/api/v1/pairing/invites")
    window.button("Stop").click()
    expect(page.get_by_role("cell", name="cancelled")).to_have_count(1)


def test_what_happens_is_told_once_however_slow_the_log_is(gateway: GatewayProcess, new_window: NewWindow) -> None:
    window = signed_in(new_window, gateway)
    window.open("/admin")
    activity = window.page.get_by_role("region", name="Activity")
    expect(activity.locator(".event").first).to_be_visible()
    held = Held(window, "GET", "**/api/v1/audit?after=*")
    held.comes()
    window.button("Pause").click()
    window.button("Go on").click()
    ask(window.page, FRAMES)
    count = len(held.routes)
    window.operator.add_key("Seen once")
    held.let_go()
    expect(activity.locator("details", has_text="Seen once")).to_have_count(1)
    assert count == 1


def test_a_check_of_what_stands_there_no_more_lets_nobody_save(gateway: GatewayProcess, new_window: NewWindow) -> None:
    window = signed_in(new_window, gateway)
    page = window.page
    window.open("/admin/policies")
    window.button("New policy").click()
    page.get_by_label("Name", exact=True).fill("wide")
    page.get_by_label("Text, in Cedar").fill("forbid (principal, action, resource);")
    held = Held(window, "POST", "**/policies/check")
    window.button("Check").click()
    held.comes()
    page.get_by_label("Text, in Cedar").fill(POLICY)
    held.let_go()
    window.is_quiet()
    expect(window.button("Save")).to_be_disabled()
    window.button("Check").click()
    expect(window.button("Save")).to_be_enabled()

    window.open("/admin/settings")
    page.get_by_label("Keep events", exact=True).fill("8000")
    held = Held(window, "PATCH", "**/api/v1/settings")
    window.button("Review changes").click()
    held.comes()
    page.get_by_label("Keep events", exact=True).fill("80")
    held.let_go()
    window.is_quiet()
    expect(page.get_by_role("dialog")).to_have_count(0)

    window.operator.add_key("Valve")
    window.open(f"/admin/devices/{window.operator.device('Valve')['device_id']}")
    page.get_by_role("button", name="Change the topics of key_").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("May publish").select_option("none")
    held = Held(window, "POST", "**/topics/check")
    dialog.get_by_role("button", name="Check").click()
    held.comes()
    dialog.get_by_label("May publish").select_option("all")
    held.let_go()
    window.is_quiet()
    save = dialog.get_by_role("button", name="Save the topics")
    expect(save).to_be_disabled()
    dialog.get_by_role("button", name="Check").click()
    expect(save).to_be_enabled()


@pytest.mark.parametrize(
    ("path", "asked", "shown"),
    [
        ("settings", "settings", "Keep events"),
        ("audit", "audit?limit=50", "shown"),
        ("people", "users", "Reset sign-in"),
        ("you", "me/passkeys", "this browser"),
    ],
)
def test_a_page_that_found_nobody_asks_again(
    gateway: GatewayProcess, new_window: NewWindow, path: str, asked: str, shown: str
) -> None:
    window = signed_in(new_window, gateway)
    window.may_lose_network = True
    window.page.route(f"**/api/v1/{asked}*", lambda route: route.abort("connectionreset"), times=AGAIN)
    window.open(f"/admin/{path}")
    window.sees("The gateway does not answer.")
    window.sees(shown)


def test_a_sign_in_that_found_nobody_learns_of_passwords_later(gateway: GatewayProcess, new_window: NewWindow) -> None:
    window = new_window(gateway, DESKTOP)
    window.may_lose_network = True
    window.page.route("**/api/v1/sign-in", lambda route: route.abort("connectionreset"), times=AGAIN)
    window.open("/admin")
    window.sees("The gateway does not answer.")
    expect(window.button("Use a password")).to_be_visible()


def test_words_typed_in_two_fields_of_the_log_both_narrow_it(gateway: GatewayProcess, new_window: NewWindow) -> None:
    window = signed_in(new_window, gateway)
    page = window.page
    window.open("/admin/audit")
    window.heading("Audit log")
    page.get_by_label("Event, such as device.").fill("api_key.")
    page.get_by_label("By: a user or device id").fill("nobody")
    window.sees("No entry is like that.")
    expect(page).to_have_url(re.compile("event=api_key.&actor=nobody"))


def test_what_is_typed_for_the_bot_outlives_the_saving_of_a_key(gateway: GatewayProcess, new_window: NewWindow) -> None:
    window = signed_in(new_window, gateway)
    page = window.page
    window.open("/admin/agents")
    page.get_by_label("Instructions").fill("Half a sen")
    card = page.get_by_role("form", name="OpenAI", exact=True)
    card.get_by_label("API key").fill("sk-of-nobody")
    card.get_by_role("button", name="Save").click()
    expect(card).to_contain_text("Key stored")
    window.is_quiet()
    expect(page.get_by_label("Instructions")).to_have_value("Half a sen")
    page.get_by_role("main").get_by_role("button", name="Save", exact=True).first.click()
    window.sees("Saved. It holds for the next answer.")
    assert window.operator.request("GET", "/api/v1/settings/bot")["instructions"] == "Half a sen"
