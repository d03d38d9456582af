"""Policies in the dashboard: checked before they are saved, explained, removed; an operator reads."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import NewWindow, make_gateway
from tests.browser.test_admin_pages import signed_in
from tests.browser.test_pages import Album
from tests.browser.window import DESKTOP, PHONE, Operator, Size
from tests.support.process import GatewayProcess

QUIET = 'forbid (principal, action == Action::"publish", resource)\nwhen { principal.tags.contains("quiet") };'


@pytest.fixture
def gateway(tmp_path: Path, tls_folder: Path) -> Iterator[GatewayProcess]:
    process = make_gateway(tmp_path, tls_folder, is_named=True)
    yield process.start()
    process.close()


@pytest.mark.parametrize(("name", "size"), [("phone", PHONE), ("desktop", DESKTOP)])
def test_a_policy_is_checked_saved_explained_and_removed(
    gateway: GatewayProcess, new_window: NewWindow, name: str, size: Size
) -> None:
    Operator(gateway).add_key("Bed", "quiet")
    window = signed_in(new_window, gateway, size=size)
    page, album = window.page, Album(window, name)
    window.open("/admin/policies")
    page.get_by_text("own-subtree").click()
    window.sees("principal == resource")
    window.button("New policy").click()
    page.get_by_label("Name", exact=True).fill("quiet")
    text = page.get_by_label("Text, in Cedar")
    text.fill(QUIET.replace("when", "wenn"))
    window.button("Check").click()
    window.sees("Line 2, column 1: invalid policy condition: wenn")
    expect(text).to_be_focused()
    album.add("admin-policies-wrong")
    expect(window.button("Save")).to_be_disabled()
    text.fill(QUIET)
    window.button("Check").click()
    window.sees("so nobody gains or loses any")
    album.add("admin-policies")
    window.button("Save").click()
    window.sees("quiet is in force.")
    page.get_by_label("Device", exact=True).select_option(label="Bed")
    page.get_by_label("Topic").fill("event")
    window.button("Explain").click()
    window.sees("Denied: policy quiet forbids it")
    album.add("admin-policies-explained")
    assert gateway.ask("policy", "show", "quiet")["text"] == QUIET
    window.button("Change the policy quiet").click()
    expect(text).to_have_value(QUIET)
    window.button("Cancel").click()
    window.button("Remove the policy quiet").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_text(re.compile("^quiet$"))).to_have_count(0)
    assert [one["name"] for one in gateway.ask("policy", "list") if not one["is_built_in"]] == []
