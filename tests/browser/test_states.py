"""What a phone goes through: reloads, dead networks, crashes, other tabs, a paused or ended pairing."""

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Request, Route, WebSocketRoute, expect

from tests.browser.conftest import NewWindow
from tests.browser.window import FRAMES, Window, ask
from tests.support.process import ROOT, GatewayProcess, free_port

OFFLINE = "You are offline. What you write is kept and sent when you are back."
QUEUED = "Queued: sent as soon as the gateway is reached"
OVER_HTTP = "This network blocks live connections."
_numbers = itertools.count(1)


@pytest.fixture
def phone(shared_gateway: GatewayProcess, new_window: NewWindow) -> Window:
    window = new_window(shared_gateway)
    window.pair(f"Phone {next(_numbers)}")
    return window


def test_a_reload_keeps_session_chat_and_draft(phone: Window) -> None:
    phone.say("before")
    expect(phone.page).not_to_have_url(re.compile("/chat/new$"))
    phone.page.get_by_label("Message").fill("half a thought")
    phone.keeps("half a thought", "drafts")
    phone.page.reload()
    expect(phone.answers).to_have_count(1)
    assert phone.transcript() == ["before", "before"]
    expect(phone.page.get_by_label("Message")).to_have_value("half a thought")
    phone.say("after")
    assert phone.transcript() == ["before", "before", "after", "after"]


def test_a_long_chat_is_drawn_whole_and_shows_its_end(phone: Window) -> None:
    said = [f"number {number}" for number in range(12)]
    for one in said:
        phone.say(one)
    phone.page.reload()
    expect(phone.answers).to_have_count(12)
    assert phone.transcript() == [one for one in said for _ in range(2)]
    expect(phone.page.locator("article").last).to_be_in_viewport()


def test_what_is_written_offline_survives_a_reload_and_is_sent_once(phone: Window) -> None:
    phone.may_lose_network = True
    phone.say("online")
    ask(phone.page, "() => navigator.serviceWorker.ready.then(() => undefined)")
    phone.context.set_offline(True)
    phone.sees(OFFLINE)
    phone.write("first")
    phone.write("second")
    expect(phone.page.get_by_text(QUEUED)).to_have_count(2)
    phone.keeps("second", "outbox")
    phone.keeps("online", "cache", "transcript")
    phone.page.reload()
    expect(phone.page.get_by_text(QUEUED)).to_have_count(2)
    expect(phone.answers).to_have_count(1)
    assert phone.transcript() == ["online", "online", "first", "second"]

    phone.context.set_offline(False)
    expect(phone.answers).to_have_count(3)
    expect(phone.page.get_by_text(QUEUED)).to_have_count(0)
    assert sorted(phone.transcript()) == sorted(["online", "first", "second"] * 2)
    assert _stored_by_the_gateway(phone) == phone.transcript()


def test_a_message_whose_answer_was_lost_is_sent_again_and_kept_once(phone: Window) -> None:
    lost: list[str] = []

    def lose_one_result(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def pass_on(message: str | bytes) -> None:
            frame = json.loads(message)
            if frame["type"] == "result" and not lost:
                lost.append(frame["id"])
                socket.close(code=4001)
            elif lost or frame["type"] != "event":  # the event of the message itself would give it away
                socket.send(message)

        server.on_message(pass_on)

    phone.say("before")
    phone.context.route_web_socket("**/ws", lose_one_result)
    phone.page.reload()
    expect(phone.answers).to_have_count(1)
    expect(phone.button("Rename conversation")).to_be_enabled()
    phone.write("only once")
    expect(phone.answers).to_have_count(2)
    expect(phone.sent).to_have_count(2)
    assert len(lost) == 1
    assert _stored_by_the_gateway(phone) == phone.transcript() == ["before", "before", "only once", "only once"]


def test_a_killed_gateway_comes_back_with_everything_and_the_page_follows(
    gateway: GatewayProcess, new_window: NewWindow
) -> None:
    phone = new_window(gateway)
    phone.may_lose_network = True
    phone.pair()
    phone.say("one")
    phone.write("!note eggs")
    expect(phone.link(re.compile("Approval needed"))).to_be_visible()
    phone.page.evaluate("globalThis.notReloaded = true")
    gateway.kill()
    phone.sees(re.compile("Reconnecting…|The gateway does not answer"))
    phone.write("two")
    expect(phone.page.get_by_text(QUEUED)).to_be_visible()

    gateway.start()
    phone.page.evaluate("dispatchEvent(new Event('online'))")  # what a phone says when it changes networks
    expect(phone.sent).to_have_count(3)
    phone.review()
    phone.button("Approve").click()
    phone.sees("Approved. The agent goes on.")
    phone.link("Open the conversation").click()
    expect(phone.answers).to_have_count(3)
    assert phone.transcript() == ["one", "one", "!note eggs", "two", "noted: eggs", "two"]
    assert _stored_by_the_gateway(phone) == phone.transcript()
    assert phone.page.evaluate("globalThis.notReloaded")


def test_a_paused_device_says_so_and_goes_on_when_reactivated(phone: Window) -> None:
    phone.may_lose_network = True
    phone.say("kept")
    phone.operator.change(phone.name, "suspend")
    phone.heading("This device is paused")
    with phone.page.expect_websocket():
        phone.button("Check again").click()
    expect(phone.page.locator("main")).to_be_visible()
    phone.heading("This device is paused")
    phone.operator.change(phone.name, "reactivate")
    phone.button("Check again").click()
    expect(phone.answers).to_have_count(1)
    phone.say("again")


def test_a_network_without_sockets_still_chats_approves_and_learns_of_its_removal(
    phone: Window,
) -> None:
    phone.may_lose_network = True
    phone.context.route_web_socket("**/ws", lambda socket: socket.close(code=1006))
    phone.page.reload()
    phone.sees(OVER_HTTP)
    phone.say("over plain requests")
    phone.write("!note milk")
    phone.review()
    phone.button("Deny").click()
    phone.sees("Denied. The agent has been told.")
    phone.operator.change(phone.name, "revoke")
    phone.heading("This device was removed")


def test_a_phone_that_is_paired_again_without_a_reload_keeps_what_is_said(phone: Window) -> None:
    phone.may_lose_network = True  # what was asked for as it was removed is refused
    phone.say("before")
    phone.operator.change(phone.name, "revoke")
    phone.heading("This device was removed")
    phone.button("Pair this device again").click()
    phone.pair("Paired again")
    phone.say("after")
    phone.keeps("after", "cache", "transcript")


def test_a_history_that_is_refused_is_not_asked_for_again_at_once(
    phone: Window, shared_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    asked: list[str] = []
    refuses = True

    def refuse(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def pass_on(message: str | bytes) -> None:
            frame = json.loads(message)
            if frame.get("name") != "conversation.history" or not refuses:
                server.send(message)
                return
            asked.append(frame["id"])
            problem = {"code": "rate_limited", "message": "Too many.", "retry": True, "retry_after_s": 60}
            socket.send(json.dumps({"type": "error", "id": frame["id"], **problem}))

        socket.on_message(pass_on)

    phone.say("before")
    expect(phone.page).not_to_have_url(re.compile("/chat/new$"))
    other = new_window(shared_gateway)
    other.pair("Other phone")
    other.context.route_web_socket("**/ws", refuse)
    other.page.goto(phone.page.url)
    expect(other.page.get_by_text(re.compile("The conversation could not be loaded"))).to_have_count(1)
    for _ in range(30):
        ask(other.page, FRAMES)
    assert len(asked) < 5
    refuses = False
    expect(other.answers).to_have_count(1)


def test_two_tabs_never_refresh_at_the_same_time(phone: Window) -> None:
    held: list[Route] = []
    tokens: list[str] = []

    def hold_the_first(route: Route, request: Request) -> None:
        tokens.append((request.post_data_json or {})["refresh_token"])
        if len(tokens) == 1:
            held.append(route)
        else:
            route.continue_()

    phone.say("hello")
    phone.context.route("**/api/v1/auth/refresh", hold_the_first)
    second = phone.new_tab()
    with phone.page.expect_request("**/api/v1/auth/refresh"):
        phone.page.reload()
    second.goto(phone.page.url)
    phone.becomes("navigator.locks.query().then((locks) => locks.pending.length === 1)", tab=second)
    assert len(tokens) == 1
    held[0].continue_()
    for tab in (phone.page, second):
        expect(tab.locator("article.agent")).to_have_count(1)
        expect(tab.get_by_role("button", name="Rename conversation")).to_be_enabled()  # it is connected
    assert len(set(tokens)) == 2
    phone.say("seen in both")
    expect(second.locator("article.agent")).to_have_count(2)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_phone_whose_clock_is_an_hour_off_pairs_and_chats(
    shared_gateway: GatewayProcess, new_window: NewWindow, hours: int
) -> None:
    phone = new_window(shared_gateway)
    phone.context.add_init_script(f"const told = Date.now.bind(Date); Date.now = () => told() + {hours} * 3_600_000;")
    phone.open("/pair")
    phone.sees("This device's clock is 60 minutes off.")
    phone.pair("Late" if hours < 0 else "Early")
    phone.say("hello")
    # A reload knows nothing of the gateway's clock: the first proof is stale, the second is right.
    phone.may_lose_network = True
    with phone.page.expect_response(_is_refused_refresh) as refused:
        phone.page.reload()
    assert refused.value.json()["code"] == "proof_stale"
    expect(phone.answers).to_have_count(1)
    phone.say("again")


def _is_refused_refresh(response: object) -> bool:
    return getattr(response, "url", "").endswith("/auth/refresh") and getattr(response, "status", 0) == 401


def _stored_by_the_gateway(phone: Window) -> list[str]:
    """The conversation as a page that knows nothing but the gateway shows it."""
    operator = phone.operator.request
    rows = operator("GET", "/api/v1/conversations")["rows"]
    own = phone.page.url.rpartition("/")[2]
    assert own in [row["conversation_id"] for row in rows]
    messages = operator("GET", f"/api/v1/conversations/{own}/messages")["rows"]
    return [row["content"] for row in sorted(messages, key=lambda row: row["seq"])]


@contextmanager
def model_that_answers_after(port: int, delay_s: float) -> Generator[None]:
    command = [sys.executable, "-m", "benchmarks.instant_model", str(port), str(delay_s)]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        server.stdout.readline()  # it listens
        yield
    finally:
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()


def test_a_gateway_killed_in_mid_answer_says_so_and_offers_to_send_again(
    idle_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    port = free_port()
    idle_gateway.environment |= {
        "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1",
        "OPENAI_API_KEY": "none",
        "ENTOBOT_AGENT__MODEL": "instant",
        "ENTOBOT_AGENT__RUNNER": "llm",
    }
    phone = new_window(idle_gateway.start())
    phone.may_lose_network = True
    phone.pair()
    with model_that_answers_after(port, 3600):
        phone.write("what is for dinner?")
        expect(phone.button("Stop answering")).to_be_visible()
        idle_gateway.kill()
    with model_that_answers_after(port, 0):
        idle_gateway.start()
        phone.page.evaluate("dispatchEvent(new Event('online'))")
        phone.sees(re.compile("The gateway was stopped while the answer was being written"))
        phone.button("Send again").click()
        expect(phone.answers).to_have_count(1)
    expect(phone.button("Send again")).to_have_count(0)
    assert phone.page.locator("article.own .bubble").all_inner_texts() == ["what is for dinner?"] * 2
