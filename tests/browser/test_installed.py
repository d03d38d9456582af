"""The app as an app: installable, there without a network, upgraded by a tap, and paired on an iPhone's home screen."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from entobot.web.pages import BUILT_PAGES
from tests.browser.conftest import NewWindow, make_gateway
from tests.browser.test_pages import Album
from tests.browser.window import COUNT_RECORDS, Window, ask
from tests.support.process import GatewayProcess

IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.4 Mobile/15E148 Safari/604.1"
KEPT = """async () => {
  await navigator.serviceWorker.ready;
  const kept = {};
  for (const name of await caches.keys()) {
    const requests = await (await caches.open(name)).keys();
    kept[name] = requests.map((request) => new URL(request.url).pathname);
  }
  return kept;
}"""
FROM_FOLDER = """
import sys
from pathlib import Path
from entobot.web import pages
pages.load_pages.__defaults__ = (Path({folder!r}),)
from entobot.__main__ import main
main()
"""


def test_the_app_can_be_installed_and_keeps_its_files_and_no_answers(
    shared_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    window = new_window(shared_gateway)
    window.may_lose_network = True
    window.pair("Installable")
    window.say("kept on the phone")
    session = window.context.new_cdp_session(window.page)
    manifest = session.send("Page.getAppManifest")
    assert manifest["errors"] == []
    said: dict[str, Any] = json.loads(manifest["data"])
    assert (said["id"], said["start_url"], said["scope"], said["display"]) == ("/", "/", "/", "standalone")
    assert {icon.get("purpose", "any") for icon in said["icons"]} == {"any", "maskable"}
    for path in [*(icon["src"] for icon in said["icons"]), *(shortcut["url"] for shortcut in said["shortcuts"])]:
        assert ask(window.page, "(path) => fetch(path).then((answer) => answer.ok)", path), path
    ask(window.page, "() => navigator.serviceWorker.ready.then(() => true)")
    missing = {one["errorId"] for one in session.send("Page.getInstallabilityErrors")["installabilityErrors"]}
    assert missing <= {"in-incognito"}, "what a test's profile is, and nothing else"

    kept = ask(window.page, KEPT)
    assert len(kept) == 1
    assert not [path for path in next(iter(kept.values())) if re.match("/(api|ws|admin)", path)]

    window.keeps("kept on the phone", "cache", "transcript")
    window.context.set_offline(True)
    window.open("/")
    window.link(re.compile("kept on the phone")).click()
    expect(window.answers).to_have_count(1)
    # A browser's emulation forgets to tell new pages; a phone does not.
    window.page.evaluate("Object.defineProperty(navigator, 'onLine', { value: false, configurable: true })")
    window.sees("You are offline. What you write is kept and sent when you are back.")
    window.open("/device")  # a page that was never opened before
    window.heading("On the home screen")
    window.sees("Not connected")
    window.page.evaluate("""() => {
      const event = new Event("beforeinstallprompt", { cancelable: true });
      event.prompt = async () => { window.prompted = true; };
      event.userChoice = Promise.resolve({ outcome: "accepted" });
      dispatchEvent(event);
    }""")
    window.button("Install").click()
    window.becomes("window.prompted === true")
    expect(window.button("Install")).to_have_count(0)
    window.page.evaluate("dispatchEvent(new Event('appinstalled'))")
    window.sees("Entobot runs as an app here.")


@pytest.fixture
def upgradable(tmp_path: Path, tls_folder: Path) -> Iterator[tuple[GatewayProcess, Path]]:
    """A gateway with built pages of its own, which a story may replace."""
    folder = tmp_path / "pages"
    shutil.copytree(BUILT_PAGES, folder)
    process = make_gateway(tmp_path, tls_folder, program=("-c", FROM_FOLDER.format(folder=str(folder))))
    yield process, folder
    process.close()


def build_anew(folder: Path) -> None:
    """Another version of the pages: another script, under another name, and the old one is gone."""
    (entry,) = folder.glob("assets/phone-*.js")
    newer = entry.with_name("phone-newer000.js")
    entry.rename(newer)
    newer.write_text(newer.read_text() + "\nglobalThis.isNewer = true;")
    for path in [*folder.glob("*.*"), *folder.glob("assets/*.js")]:
        if path.suffix in (".html", ".js"):
            text = path.read_text().replace(entry.name, newer.name)
            path.write_text(re.sub(r"\bentobot-[0-9a-f]{16}\b|(?<=\$\{PREFIX\})[0-9a-f]{16}", "0" * 16, text))


def test_a_new_version_waits_for_a_tap_and_loses_no_draft(
    upgradable: tuple[GatewayProcess, Path], new_window: NewWindow
) -> None:
    gateway, folder = upgradable
    gateway.start()
    window = new_window(gateway)
    window.may_lose_network = True
    window.pair("Phone")
    window.say("before")
    ask(window.page, "() => navigator.serviceWorker.ready.then(() => true)")
    window.page.get_by_label("Message").fill("half a thought")
    window.page.evaluate("globalThis.notReloaded = true")
    gateway.stop()
    build_anew(folder)
    gateway.start()
    window.page.evaluate("dispatchEvent(new Event('online'))")
    window.sees("A new version is ready.")
    assert window.page.evaluate("globalThis.notReloaded && !globalThis.isNewer")
    expect(window.page.get_by_label("Message")).to_have_value("half a thought")
    window.button("Back").click()
    window.link("Device").click()  # a page of the old version, whose files the gateway has no more
    window.heading("This device")
    assert window.page.evaluate("globalThis.notReloaded && !globalThis.isNewer")

    with window.page.expect_navigation():
        window.button("Reload").click()
    assert window.page.evaluate("globalThis.isNewer === true")
    expect(window.page.get_by_text("A new version is ready.")).to_have_count(0)
    window.link("Chats").click()
    window.link(re.compile("before")).click()
    expect(window.page.get_by_label("Message")).to_have_value("half a thought")
    window.context.set_offline(True)
    window.page.reload()
    expect(window.answers).to_have_count(1)
    assert window.page.evaluate("globalThis.isNewer === true")


def test_what_another_app_shares_becomes_a_draft_and_is_in_no_address(
    gateway: GatewayProcess, new_window: NewWindow
) -> None:
    window = new_window(gateway)
    page = window.page
    window.pair("Phone")
    window.say("groceries")
    ask(page, "() => navigator.serviceWorker.ready.then(() => true)")
    expect(page).not_to_have_url(re.compile("/chat/new$"))
    page.get_by_label("Message").fill("first thought")
    window.becomes(f"({COUNT_RECORDS})().then((kept) => kept.drafts === 1)")
    window.open("/device")
    asked: list[str] = []
    window.context.on("request", lambda request: asked.append(request.url))
    # What a phone does with the manifest's share_target.
    page.evaluate("""() => {
      const form = Object.assign(document.createElement("form"), { action: "/share", method: "post", enctype: "multipart/form-data" });
      for (const [name, value] of Object.entries({ title: "Soup", text: "Soup is ready https://market.example/s?token=1", url: "https://market.example/s?token=1" }))
        form.append(Object.assign(document.createElement("input"), { name, value }));
      const picked = new DataTransfer();
      picked.items.add(new File(["two eggs"], "list.txt", { type: "text/plain" }));
      const files = Object.assign(document.createElement("input"), { type: "file", name: "files" });
      files.files = picked.files;
      form.append(files);
      document.body.append(form);
      form.submit();
    }""")
    window.heading("Where does this belong?")
    window.sees("Soup is ready https://market.example/s?token=1")
    window.sees("list.txt")
    album = Album(window, "phone")
    album.add("share")
    window.button("groceries").click()
    expect(page.get_by_label("Message")).to_have_value("first thought\nSoup is ready https://market.example/s?token=1")
    window.sees("list.txt")
    expect(window.answers).to_have_count(1)  # nothing was sent
    assert not [url for url in asked if "token" in url or "Soup" in url]
    window.open("/share")
    window.sees("Nothing was shared")
    assert album.found == {}


def test_an_invitation_opened_in_safari_comes_along_to_the_home_screen(
    shared_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    safari = new_window(shared_gateway, user_agent=IPHONE)
    invite = safari.operator.invite()
    safari.page.goto(invite["url"])
    safari.heading("First add Entobot to your Home Screen")
    safari.sees("the invitation comes along")
    (cookie,) = safari.context.cookies()
    assert (cookie.get("secure"), cookie.get("sameSite")) == (True, "Strict")
    assert safari.page.url == f"{safari.origin}/pair", "no secret in the address"

    copied: dict[str, Any] = {"cookies": [cookie], "origins": []}  # what a home screen gets of Safari, and no more
    home: Window = new_window(shared_gateway, user_agent=IPHONE, storage_state=copied)
    home.context.add_init_script("Object.defineProperty(navigator, 'standalone', { value: true })")
    home.open("/")
    home.page.get_by_label("Name of this device").fill("iPhone")
    home.becomes("cookieStore.getAll().then((all) => all.length === 0)")
    home.button("Pair").click()
    home.operator.confirm(invite["invite_id"], home.digits())
    home.is_in_a_new_chat()

    again: Window = new_window(shared_gateway, user_agent=IPHONE, storage_state=copied)
    again.may_lose_network = True
    again.context.add_init_script("Object.defineProperty(navigator, 'standalone', { value: true })")
    again.open("/")
    again.button("Pair").click()
    again.sees("This invitation was already used")
