"""A push wakes the phone's app: the real service worker shows it, and a tap opens what it is about.

What is not real: the browser's push service. Chromium cannot reach the one it is built for from a test machine, so
`pushManager.subscribe` answers with a subscription at a push service of the tests, which decrypts with the reference
implementation; what it found is delivered to the service worker through the browser's own debugging interface.
"""

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import CDPSession, expect

from tests.browser.conftest import NewWindow, make_gateway
from tests.browser.test_pages import Album
from tests.browser.window import GENEROUS_MS, Window, ask
from tests.support.process import GENEROUS_S, GatewayProcess
from tests.support.push_service import Push, PushService, Subscriber

AT = "/api/v1/notifications"
STAND_IN = """
PushManager.prototype.subscribe = async function (options) {
  const json = %s;
  window.__asked = { visible: options.userVisibleOnly, key: [...new Uint8Array(options.applicationServerKey)].length };
  const made = { toJSON: () => json, options, endpoint: json.endpoint, unsubscribe: async () => { window.__push = null; return true; } };
  window.__push = made;
  return made;
};
PushManager.prototype.getSubscription = async function () { return window.__push ?? null; };
"""
SHOWN = """async () => {
  const registration = await navigator.serviceWorker.ready;
  return (await registration.getNotifications()).map(({ title, body, tag, data }) => ({ title, body, tag, data }));
}"""
TAP = """async () => {
  const [first] = await self.registration.getNotifications();
  self.dispatchEvent(new NotificationEvent("notificationclick", { notification: first }));
}"""

UNDECIDED = """
window.__asked_permission = 0;
let permission = "default";
Object.defineProperty(Notification, "permission", { get: () => permission });
Notification.requestPermission = async () => { window.__asked_permission += 1; return (permission = "granted"); };
"""
HEAR_SUBSCRIBE = """() => {
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (data) {
    send.call(this, data);
    if (data.includes("push.subscribe")) console.log("subscribed");
  };
}"""

ACTIVATED = """async () => {
  const { active } = await navigator.serviceWorker.ready;
  while (active.state !== "activated")
    await new Promise((changed) => active.addEventListener("statechange", changed, { once: true }));
}"""


class Services:
    """A push service on a loop of its own, beside the browser's."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.push = self._run(PushService().start())
        self.browser = Subscriber()

    def _run(self, work: Any) -> Any:
        done: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return done.result(GENEROUS_S)

    def pushes(self, count: int) -> list[Push]:
        return self._run(self.push.until(count))

    def stop(self) -> None:
        self._run(self.push.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stand_in(self) -> str:
        subscription = {"endpoint": f"{self.push.origin}/one", "expirationTime": None, "keys": self.browser.keys()}
        return STAND_IN % json.dumps(subscription)


@pytest.fixture
def services() -> Iterator[Services]:
    services = Services()
    yield services
    services.stop()


@pytest.fixture
def gateway(tmp_path: Path, tls_folder: Path) -> Iterator[GatewayProcess]:
    process = make_gateway(tmp_path, tls_folder)
    process.environment["ENTOBOT_NOTIFICATIONS__PRIVATE_NETWORKS"] = "127.0.0.0/8"
    process.start()
    yield process
    process.close()


def worker(window: Window) -> tuple[CDPSession, str]:
    """The debugging interface, and the id of the registration."""
    session = window.context.new_cdp_session(window.page)
    found: list[str] = []
    session.on(
        "ServiceWorker.workerRegistrationUpdated",
        lambda told: found.extend(one["registrationId"] for one in told["registrations"]),
    )
    session.send("ServiceWorker.enable")
    ask(window.page, ACTIVATED)  # the browser drops a push for a worker that is ready and not yet active
    for _ in range(100):
        if found:
            break
        window.page.wait_for_timeout(50)
    return session, found[0]


def deliver(window: Window, services: Services, push: Push) -> dict[str, Any]:
    session, registration = worker(window)
    said = services.browser.open(push.body)
    session.send(
        "ServiceWorker.deliverPushMessage",
        {"origin": window.origin, "registrationId": registration, "data": json.dumps(said)},
    )
    return said


def shown(window: Window, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for _ in range(GENEROUS_MS // 100):
        found = ask(window.page, SHOWN)
        if len(found) == count:
            return found
        window.page.wait_for_timeout(100)
    raise AssertionError(f"not {count} notifications: {found}")


def test_a_push_is_shown_and_a_tap_opens_the_conversation(
    gateway: GatewayProcess, new_window: NewWindow, services: Services
) -> None:
    window = new_window(gateway, permissions=["notifications"])
    window.context.add_init_script(services.stand_in())
    window.pair("Phone")
    window.open("/notifications/settings")
    window.button("Turn on pushes").click()
    expect(window.page.get_by_text("This device is told while the app is closed.")).to_be_visible()
    assert ask(window.page, "() => window.__asked") == {"visible": True, "key": 65}

    window.button("Send a test").click()
    expect(window.page.get_by_text("The service took it. It should show up within seconds.")).to_be_visible()
    said = deliver(window, services, services.pushes(1)[0])
    first = shown(window, 1)[0]
    assert (first["title"], first["tag"]) == ("This is a test", said["notification"]["tag"])

    window.operator.request("POST", AT, json={"title": "Door is open", "link": "/approvals", "collapse_key": "door"})
    page = window.page
    page.goto("about:blank")  # the app is closed
    window.operator.request(
        "POST", AT, json={"title": "Door is open still", "link": "/approvals", "collapse_key": "door"}
    )
    pushed = services.pushes(2)[-1]
    window.open("/")
    deliver(window, services, pushed)
    deliver(window, services, pushed)
    found = sorted(shown(window, 2), key=lambda one: one["title"])  # a browser lists them by their tags
    assert [one["title"] for one in found] == ["New notification", "This is a test"], (
        "a repeat takes the earlier's place"
    )
    assert found[0]["body"] == "", "content stays on the gateway"

    window.context.service_workers[0].evaluate(
        "async () => (await self.registration.getNotifications()).filter((one) => one.title !== 'New notification').forEach((one) => one.close())"
    )
    shown(window, 1)
    window.context.service_workers[0].evaluate(TAP)
    page.wait_for_url(f"{window.origin}/approvals")
    shown(window, 0)


def test_a_push_that_cannot_be_read_is_shown_all_the_same(
    gateway: GatewayProcess, new_window: NewWindow, services: Services
) -> None:
    window = new_window(gateway, permissions=["notifications"])
    window.context.add_init_script(services.stand_in())
    window.pair("Phone")
    session, registration = worker(window)
    for data in ("not json", json.dumps({"notification": {"title": 7}, "entobot": {"path": "https://evil.example/"}})):
        session.send(
            "ServiceWorker.deliverPushMessage", {"origin": window.origin, "registrationId": registration, "data": data}
        )
    assert {one["title"] for one in shown(window, 2)} == {"Entobot"}
    window.context.service_workers[0].evaluate(TAP)
    window.page.wait_for_url(f"{window.origin}/notifications")


def test_the_pages_are_accessible_in_both_themes(
    gateway: GatewayProcess, new_window: NewWindow, services: Services
) -> None:
    window = new_window(gateway, permissions=["notifications"])
    window.context.add_init_script(services.stand_in())
    window.pair("Phone")
    album = Album(window)
    window.open("/notifications")
    window.sees("No news")
    album.add("news-empty")
    body = {"title": "Door is open", "body": "Since 5 minutes", "priority": "high", "link": "/approvals"}
    window.operator.request("POST", AT, json=body)
    window.heading("Door is open")
    album.add("news")
    window.open("/notifications/settings")
    window.button("Turn on pushes").click()
    expect(window.button("Turn off pushes")).to_be_visible()
    window.page.get_by_label("Quiet hours").check()
    topic = {"channel": "ntfy", "address": "https://ntfy.example/a-topic-nobody-guesses"}
    window.operator.request("POST", f"{AT}/places", json=topic)
    window.page.reload()
    window.sees("ntfy.example")
    album.add("news-settings")
    assert album.found == {}


def test_turning_it_off_ends_the_subscription(
    gateway: GatewayProcess, new_window: NewWindow, services: Services
) -> None:
    window = new_window(gateway, permissions=["notifications"])
    window.context.add_init_script(services.stand_in())
    window.pair("Phone")
    window.open("/notifications/settings")
    window.button("Turn on pushes").click()
    expect(window.button("Turn off pushes")).to_be_visible()
    device = window.operator.device("Phone")
    at = f"/api/v1/devices/{device['device_id']}/push"
    assert len(window.operator.request("GET", at)["rows"]) == 1

    places = window.operator.request("GET", f"{AT}/places")["rows"]
    window.operator.request(
        "DELETE", f"{AT}/places/{next(row['place_id'] for row in places if row['channel'] == 'push')}"
    )
    assert window.operator.request("GET", at)["rows"] == []
    window.page.evaluate("window.__push = null")  # the browser has let it end, and says so
    worker(window)
    window.page.evaluate(HEAR_SUBSCRIBE)
    with window.page.expect_console_message(lambda message: message.text == "subscribed"):
        window.context.service_workers[0].evaluate(
            "() => self.dispatchEvent(new ExtendableEvent('pushsubscriptionchange'))"
        )
    window.page.reload()
    expect(window.button("Turn off pushes")).to_be_visible()
    assert len(window.operator.request("GET", at)["rows"]) == 1
    window.button("Turn off pushes").click()
    expect(window.button("Turn on pushes")).to_be_visible()
    assert window.operator.request("GET", at)["rows"] == []


def test_the_rules_of_a_person_are_theirs_to_change(gateway: GatewayProcess, new_window: NewWindow) -> None:
    window = new_window(gateway, timezone_id="Europe/Berlin")
    window.pair("Phone")
    window.open("/notifications/settings")
    page = window.page
    page.get_by_label("Quiet hours").check()
    page.get_by_label("From", exact=True).fill("21:30")
    page.get_by_label("answers of the agent").uncheck()
    page.get_by_label("warnings of the gateway").uncheck()
    page.get_by_label("What has low priority is told once a day, at").fill("18:15")
    window.button("Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    rules = window.operator.request("GET", f"{AT}/rules")
    assert rules["quiet_hours"] == {"begin": "21:30", "end": "07:00"}
    assert (rules["time_zone"], rules["muted"], rules["digest_at"]) == ("Europe/Berlin", ["alert", "message"], "18:15")


def test_permission_is_asked_after_the_first_answer_by_a_tap_and_by_nothing_else(
    gateway: GatewayProcess, new_window: NewWindow, services: Services
) -> None:
    window = new_window(gateway)
    window.context.add_init_script(UNDECIDED)
    window.context.add_init_script(services.stand_in())
    window.pair("Phone")
    window.open("/")
    window.sees("No conversations yet")
    offer = window.page.get_by_role("region", name="A suggestion")
    expect(offer).to_have_count(0)
    window.open("/chat/new")
    window.say("hello")
    window.open("/")
    expect(offer.get_by_role("heading", name="Be told when the app is closed?")).to_be_visible()
    album = Album(window, "phone")
    album.add("chats-suggestion")
    assert album.found == {}
    window.button("Not now").click()
    expect(offer).to_have_count(0)
    window.page.reload()
    expect(window.link(re.compile("hello"))).to_be_visible()
    expect(offer).to_have_count(0)
    assert window.page.evaluate("window.__asked_permission") == 0

    window.page.evaluate("localStorage.removeItem('entobot.offered')")
    window.page.reload()
    window.button("Turn on").click()
    expect(offer).to_have_count(0)
    assert window.page.evaluate("window.__asked_permission") == 1
    device = window.operator.device("Phone")
    at = f"/api/v1/devices/{device['device_id']}/push"
    assert len(window.operator.request("GET", at)["rows"]) == 1


def test_what_was_told_stands_in_a_list_until_it_is_read(gateway: GatewayProcess, new_window: NewWindow) -> None:
    window = new_window(gateway)
    window.pair("Phone")
    window.operator.request("POST", AT, json={"title": "Dinner", "body": "Soup", "link": "https://example.org/menu"})
    page = window.page
    window.open("/")
    expect(window.link(re.compile(r"News.*1 not read"))).to_be_visible()
    window.link(re.compile(r"News.*1 not read")).click()
    expect(page.get_by_role("heading", name="Dinner")).to_be_visible()
    expect(window.link("Opens example.org")).to_have_attribute("rel", "noopener noreferrer")
    window.operator.request("POST", AT, json={"title": "Build failed", "kind": "build"})
    expect(page.get_by_role("heading", name="Build failed")).to_be_visible()
    page.get_by_label("Show").select_option("notes from people and programs")
    expect(page.get_by_role("heading", level=2)).to_have_text(["DinnerNot read"])
    page.get_by_label("Show").select_option("approvals")
    window.sees("Nothing of this kind.")
    page.get_by_label("Show").select_option("what is not read")
    expect(page.get_by_role("heading", level=2)).to_have_count(2)
    window.button("Mark all as read").click()
    expect(window.button("Mark all as read")).to_have_count(0)
    window.sees("Nothing of this kind.")
    assert window.operator.request("GET", AT)["unread"] == 0
