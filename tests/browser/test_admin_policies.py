"""Who decides, changed on the dashboard: reviewed before it is saved, refused with the reason; in both themes."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import NewWindow
from tests.browser.keys import tab_to
from tests.browser.test_admin_pages import signed_in
from tests.browser.test_admin_settings import opened
from tests.browser.test_admin_settings import own_gateway as own_gateway  # noqa: PLC0414  a fixture
from tests.browser.test_pages import Album
from tests.browser.window import DESKTOP, PHONE, Size
from tests.support.operator import Operator
from tests.support.process import GatewayProcess


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_an_owner_changes_who_decides(own_gateway: GatewayProcess, new_window: NewWindow, size: Size) -> None:
    window = signed_in(new_window, own_gateway, size=size)
    opened(window, "approvals", "Approvals")
    page = window.page
    album = Album(window, "phone" if size is PHONE else "desktop")
    window.sees("They are those of entobot.toml")
    tab_to(window, "Change who decides")
    page.keyboard.press("Enter")
    window.button("Add a policy").click()
    form = page.get_by_role("dialog")
    form.get_by_label("Tool").fill("files.write")
    form.get_by_label("Conditions on arguments").fill("deploy")
    form.get_by_role("button", name="Done").click()
    expect(form.get_by_role("alert")).to_contain_text("no JSON object")
    form.get_by_label("Conditions on arguments").fill('{"path": {"begins": "deploy/"}}')
    form.get_by_label("Who", exact=True).fill("bob, role:admin")
    form.get_by_label("Raise the risk to").select_option("high")
    album.add("admin-policies-form")
    form.get_by_role("button", name="Done").click()
    window.button("Review changes").click()
    window.sees("policy 1, bob: there is nobody of this name")
    album.add("admin-policies-refused")
    window.button("Edit policy 1, files.write").click()
    form.get_by_label("Who", exact=True).fill("role:admin")
    form.get_by_role("button", name="Done").click()
    window.button("Review changes").click()
    window.heading("Save these changes?")
    expect(page.get_by_role("dialog").locator("ins")).to_contain_text("role:admin")
    album.add("admin-policies-review")
    window.button("Save").click()
    window.sees("Saved. It holds for what is asked from now on.")
    window.sees("They were set here by an owner")
    album.add("admin-policies-saved")
    rows = Operator(own_gateway).local.request("GET", "/api/v1/approval-policies")["rows"]
    assert [(row["tool"], row["risk"], row["deciders"]) for row in rows] == [("files.write", "high", ["role:admin"])]
    window.button("Change who decides").click()
    window.button("Take back to entobot.toml").click()
    expect(page.get_by_role("dialog").locator("del")).to_contain_text("files.write")
    window.button("Save").click()
    window.sees(re.compile("No policies: the person"))
    assert album.found == {}
