"""Every page of the dashboard as an operator, a viewer and a stranger see it; the owner's is in test_admin_pages.py."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Response, expect

from entobot.core.permissions import ROLE_SCOPES, Role
from tests.browser.conftest import NewWindow, make_gateway
from tests.browser.test_admin_pages import NAMES, signed_in
from tests.browser.test_pages import Album
from tests.browser.window import DESKTOP, PHONE, Operator, Size, Window
from tests.support.process import ROOT, GatewayProcess

SOURCE = ROOT / "web" / "src" / "admin"


@dataclass(frozen=True)
class Section:
    path: str
    label: str
    scope: str | None


def sections() -> list[Section]:
    """As the dashboard has them, by the names that a person reads."""
    words = dict(re.findall(r'"(nav\.\w+)": "([^"]+)"', (SOURCE / "strings.en.ts").read_text()))
    line = re.compile(r'path: "(/admin[^"]*)", label: "([^"]+)".* scope: (?:null|"([^"]+)"), ')
    return [
        Section(path, words[label], scope or None)
        for path, label, scope in line.findall((SOURCE / "nav.ts").read_text())
    ]


SECTIONS = sections()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, tls_folder: object) -> Iterator[GatewayProcess]:
    """With something on every list."""
    process = make_gateway(tmp_path_factory.mktemp("roles"), tls_folder, is_named=True)  # pyright: ignore[reportArgumentType]  the fixture's
    process.start()
    for device in NAMES:
        Operator(process).add_key(device)
    for role in (Role.OPERATOR, Role.VIEWER, Role.MEMBER):
        Operator(process).add_person(role, role)
    yield process
    process.close()


def links(window: Window) -> list[str]:
    """Where the list of pages leads to; on a phone it is shown on demand."""
    menu = window.button("Open the list of pages")
    if menu.is_visible():
        menu.click()
    shown = window.page.locator("nav li a:visible, dialog li a:visible")
    expect(shown.last).to_have_attribute("href", SECTIONS[-1].path)
    return [one.get_attribute("href") or "" for one in shown.all()]


# Each page in both sizes is looked at elsewhere, as the owner sees it: here, what it says to whoever may not read it.
@pytest.mark.parametrize(("role", "name", "size"), [(Role.OPERATOR, "phone", PHONE), (Role.VIEWER, "desktop", DESKTOP)])
def test_a_role_walks_every_page_and_is_shown_what_it_may_see(
    gateway: GatewayProcess, new_window: NewWindow, role: Role, name: str, size: Size
) -> None:
    window = signed_in(new_window, gateway, role, size)
    refused: list[str] = []
    window.page.on("response", lambda answer: refused.append(answer.url) if answer.status in (401, 403) else None)
    album, was_refused = Album(window, name), False
    held = ROLE_SCOPES[role]
    assert links(window) == [one.path for one in SECTIONS if one.scope is None or one.scope in held]
    assert {one.scope for one in SECTIONS} - held - {None}, "there is something to be kept from"
    for section in SECTIONS:
        window.turn_to(section.path)
        if section.scope is None or section.scope in held:
            expect(window.page.locator("main h1").first).to_be_visible()
            expect(window.page.get_by_text("does not hold the permission")).to_have_count(0)
        else:
            window.heading(section.label)
            window.sees(f"does not hold the permission “{section.scope}”")
            if not was_refused:
                album.add("refused", is_picture=False)
            was_refused = True
        window.is_quiet()
        expect(window.page.get_by_role("alert")).to_have_count(0)
    assert refused == [], "a page asks for nothing that its reader may not have"
    assert album.found == {}


def test_a_stranger_sees_the_sign_in_on_every_page_and_nothing_else(
    gateway: GatewayProcess, new_window: NewWindow
) -> None:
    window = new_window(gateway, DESKTOP)
    window.may_lose_network = True
    answers: list[Response] = []
    window.page.on("response", lambda answer: answers.append(answer) if "/api/" in answer.url else None)
    device = window.operator.device("Lamp")["device_id"]
    for path in [*(one.path for one in SECTIONS), f"/admin/devices/{device}"]:
        window.open(path)
        window.heading("Sign in")
        expect(window.page.get_by_role("navigation", name="Pages")).to_have_count(0)
        assert not any(known in window.page.content() for known in ("Lamp", "operator", "viewer"))
    how_to_sign_in = re.compile(r"/api/v1/sign-in$")
    assert {one.status for one in answers if not how_to_sign_in.search(one.url)} == {401}


def test_a_member_sees_no_page_about_others(gateway: GatewayProcess, new_window: NewWindow) -> None:
    window = signed_in(new_window, gateway, Role.MEMBER)
    own = [one.path for one in SECTIONS if one.scope is None or one.scope in ROLE_SCOPES[Role.MEMBER]]
    assert links(window) == own
    assert set(own).isdisjoint({f"/admin/{one}" for one in ("devices", "people", "audit", "settings", "logs")})
    window.open("/admin")
    expect(window.page.locator("main h1").first).to_be_visible()
    assert not any(name in window.page.content() for name in NAMES)
