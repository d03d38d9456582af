"""One browser profile in front of a gateway, and everything that must not happen in it."""

import json
import logging
import re
import time
from collections.abc import Callable
from typing import Any, TypedDict

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, WebError, WebSocket, expect

from entobot.client.local import LocalGateway
from tests.support.process import GatewayProcess

log = logging.getLogger(__name__)

GENEROUS_MS = 90_000
expect.set_options(timeout=GENEROUS_MS)


class Size(TypedDict):
    viewport: dict[str, int]
    has_touch: bool
    is_mobile: bool
    device_scale_factor: float


PHONE: Size = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
    "device_scale_factor": 2,
}
DESKTOP: Size = {
    "viewport": {"width": 1280, "height": 800},
    "has_touch": False,
    "is_mobile": False,
    "device_scale_factor": 1,
}

_WATCH = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`violates ${event.violatedDirective}: ${event.blockedURI} ${event.sample}`));
"""
_BECOMES = """async () => {
  const until = performance.now() + %d;
  while (!(await (%s))) {
    if (performance.now() > until) return false;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return true;
}"""
_WITHIN = """(argument) => {
  const late = new Promise((_, fail) => setTimeout(() => fail(new Error("not answered within %d ms")), %d));
  return Promise.race([(%s)(argument), late]);
}"""
_FOLLOW = """(path) => {
  const link = Object.assign(document.createElement("a"), { href: path });
  document.body.append(link);
  link.click();
  link.remove();
}"""
FRAMES = """async () => {
  for (let frame = 0; frame < 2; frame += 1) await new Promise((resolve) => requestAnimationFrame(resolve));
}"""
"""What has come is drawn."""
_RECORD = """
(await new Promise((resolve) => {
  const opening = indexedDB.open("entobot");
  opening.onsuccess = () => {
    const found = opening.result.transaction(%(store)s).objectStore(%(store)s).getAll(%(key)s);
    found.onsuccess = () => { opening.result.close(); resolve(JSON.stringify(found.result)); };
  };
})).includes(%(text)s)
"""
COUNT_RECORDS = """
() => new Promise((resolve) => {
  const opening = indexedDB.open("entobot");
  opening.onsuccess = async () => {
    const counts = {};
    for (const name of opening.result.objectStoreNames) {
      counts[name] = await new Promise((done) => {
        const count = opening.result.transaction(name).objectStore(name).count();
        count.onsuccess = () => done(count.result);
      });
    }
    opening.result.close();
    resolve(counts);
  };
})
"""
"""In the page's own database: how many of each kind."""
_NETWORK_FAILURES = ("Failed to load resource", "WebSocket connection to")
INVITES = "/api/v1/pairing/invites"


def ask(page: Page, function: str, argument: object = None) -> Any:
    """What a JavaScript function answers, which may be a promise. `Page.evaluate` would wait for ever."""
    return page.evaluate(_WITHIN % (GENEROUS_MS, GENEROUS_MS, function), argument)


def sent(request: Request) -> dict[str, Any]:
    """The JSON body of a request of the page."""
    return json.loads(request.post_data or "{}")


class Operator:
    """The person at the gateway, by the same routes that the command line uses."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.request = LocalGateway(gateway.home / "gateway.sock").request

    def invite(self, **wishes: Any) -> dict[str, Any]:
        return self.request("POST", INVITES, json={"kind": "qr", **wishes})

    def confirm(self, invite_id: str, digits: str) -> None:
        claim = self.request("GET", f"{INVITES}/{invite_id}")["claim"]
        body = {"claim_id": claim["claim_id"], "code": digits}
        self.request("POST", f"{INVITES}/{invite_id}/confirm", json=body)

    def add_key(self, name: str, *tags: str) -> None:
        """A device that holds an API key."""
        body = {"device_name": name, "platform": "iot", "scopes": ["chat"], "tags": list(tags)}
        self.request("POST", "/api/v1/api-keys", json=body)

    def add_person(self, login: str, role: str) -> None:
        self.request("POST", "/api/v1/users", json={"login": login, "name": login, "role": role})

    def link(self, login: str) -> str:
        """By which this person signs in once."""
        people = {row["login"]: row["user_id"] for row in self.request("GET", "/api/v1/users")["rows"]}
        return self.request("POST", f"/api/v1/users/{people[login]}/sign-in-link")["url"]

    def device(self, name: str) -> dict[str, Any]:
        rows = [row for row in self.request("GET", "/api/v1/devices")["rows"] if row["device_name"] == name]
        assert len(rows) == 1, rows
        return rows[0]

    def change(self, name: str, verb: str) -> None:
        """`verb`: suspend, reactivate, or revoke."""
        path = f"/api/v1/devices/{self.device(name)['device_id']}"
        self.request(*(("DELETE", path) if verb == "revoke" else ("POST", f"{path}/{verb}")))


class Window:
    """A fresh profile. `close` fails when a policy was violated, a script failed, or anything else was contacted."""

    def __init__(self, browser: Browser, gateway: GatewayProcess, size: Size = PHONE, **options: Any) -> None:
        self.origin = gateway.origin
        self.name = ""
        self.operator = Operator(gateway)
        self.problems: list[str] = []
        self.network_failures: list[str] = []
        self.may_lose_network = False
        """Set by stories in which requests are refused or the network is away."""
        self.frames: list[dict[str, Any]] = []
        self._asked: set[Request] = set()
        self.context = browser.new_context(**size, reduced_motion="reduce", **options)  # pyright: ignore[reportArgumentType]  a TypedDict of the same keys
        self.context.set_default_timeout(GENEROUS_MS)
        self.context.add_init_script(_WATCH)
        self.context.on("console", self._heard)
        self.context.on("weberror", self._failed)
        self.context.on("request", self._requested)
        self.context.on("requestfinished", self._answered)
        self.context.on("requestfailed", self._lost)
        self.page = self.new_tab()

    def new_tab(self) -> Page:
        page = self.context.new_page()
        page.on("websocket", self._opened)
        return page

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        if message.text.startswith(_NETWORK_FAILURES):
            self.network_failures.append(f"{message.text} {message.location['url']}")
        else:
            self.problems.append(message.text)

    def _failed(self, error: WebError) -> None:
        self.problems.append(f"script error: {error.error}")

    def _requested(self, request: Request) -> None:
        self._contacted(request.url)
        if request.resource_type != "eventsource":  # which is never answered in full
            self._asked.add(request)

    def _answered(self, request: Request) -> None:
        self._asked.discard(request)

    def _lost(self, request: Request) -> None:
        self._asked.discard(request)
        log.warning("%s: %s", request.failure, request.url)

    def _contacted(self, url: str) -> None:
        own = (f"{self.origin}/", f"{self.origin.replace('https', 'wss')}/", f"blob:{self.origin}/", "data:")
        if not url.startswith(own):
            self.problems.append(f"contacted {url}")

    def _opened(self, socket: WebSocket) -> None:
        self._contacted(socket.url)
        socket.on("framereceived", lambda frame: self.frames.append(json.loads(frame)))

    def close(self) -> None:
        self.context.close()
        assert not self.problems, self.problems
        assert self.may_lose_network or not self.network_failures, self.network_failures

    # -- what people do

    def open(self, path: str) -> None:
        self.page.goto(self.origin + path)

    def turn_to(self, path: str) -> None:
        """As by a link on the page, whose scripts stay; returns when all that the new page asked for is there."""
        self.page.evaluate(_FOLLOW, path)
        self.is_quiet()

    def is_quiet(self) -> None:
        """Wait until nothing that a page asked for is under way."""
        quiet, until_s = 0, time.monotonic() + GENEROUS_MS / 1000
        while quiet < 2:
            ask(self.page, FRAMES)
            quiet = 0 if self._asked else quiet + 1
            assert time.monotonic() < until_s, [request.url for request in self._asked]

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def link(self, name: str | re.Pattern[str]) -> Locator:
        return self.page.get_by_role("link", name=name)

    def sees(self, text: str | re.Pattern[str]) -> None:
        """A phone keeps the list beside a page in the document, hidden: what is not visible does not count."""
        expect(self.page.get_by_text(text).filter(visible=True).first).to_be_visible()

    def heading(self, name: str | re.Pattern[str]) -> None:
        expect(self.page.get_by_role("heading", name=name)).to_be_visible()

    def digits(self) -> str:
        """The confirmation digits as they stand on the page."""
        shown = self.page.locator("[data-digits]")
        expect(shown.locator(".digit")).to_have_count(6)
        return "".join(shown.locator(".digit").all_inner_texts())

    def pair(self, name: str = "Phone") -> None:
        """Through the page, with the operator's part done at once."""
        self.name = name
        invite = self.operator.invite()
        self.page.goto(invite["url"])
        self.page.get_by_label("Name of this device").fill(name)
        self.button("Pair").click()
        self.operator.confirm(invite["invite_id"], self.digits())
        self.is_in_a_new_chat()

    def is_in_a_new_chat(self) -> None:
        expect(self.page).to_have_url(f"{self.origin}/chat/new")
        expect(self.page.get_by_label("Message")).to_be_visible()

    def is_live(self) -> None:
        """Wait until what happens now is told to the page as it happens: it is connected."""
        self.until(lambda: any(frame["type"] == "ready" for frame in self.frames), "the page does not connect")

    def until(self, holds: Callable[[], object], otherwise: str) -> None:
        """Wait for what the test itself notes of the page's doings."""
        until_s = time.monotonic() + GENEROUS_MS / 1000
        while not holds():
            ask(self.page, FRAMES)
            assert time.monotonic() < until_s, otherwise

    def write(self, text: str) -> None:
        self.page.get_by_label("Message").fill(text)
        self.button("Send").click()

    def say(self, text: str) -> None:
        """Write and wait until the agent has said it back and the gateway has stored it."""
        before = self.answers.count()
        self.write(text)
        expect(self.answers).to_have_count(before + 1)
        expect(self.answers.last.locator(".answer")).to_have_text(text)

    @property
    def answers(self) -> Locator:
        """Finished answers: those with a time."""
        return self.page.locator("article.agent", has=self.page.locator("time"))

    @property
    def sent(self) -> Locator:
        """Own messages that the gateway has."""
        return self.page.locator("article.own", has=self.page.locator("time"))

    @property
    def asked(self) -> Locator:
        """In a chat: the way to the request that waits there."""
        return self.page.locator("a.approval")

    def transcript(self) -> list[str]:
        """Everything said, in order, as it stands on the page."""
        return self.page.locator("article .bubble, article .answer").all_inner_texts()

    def review(self) -> None:
        """From the chat to the request that waits there."""
        self.asked.click()
        self.heading("What will be done")

    def keeps(self, text: str, store: str, key: str | None = None) -> None:
        """Wait until a record of the page's own store is on the disk with this in it: what is shown is kept a moment later."""
        names = {"store": json.dumps(store), "key": json.dumps(key) if key else "", "text": json.dumps(text)}
        self.becomes(f"(async () => {_RECORD % names})()")

    def becomes(self, condition: str, *, tab: Page | None = None) -> None:
        """Wait for a JavaScript expression, which may be a promise, to be true."""
        assert (tab or self.page).evaluate(_BECOMES % (GENEROUS_MS, condition)), condition
