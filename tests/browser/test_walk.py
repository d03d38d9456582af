"""The README's walk, as a newcomer takes it: a terminal beside a phone."""

import re
from collections.abc import Callable
from pathlib import Path

import segno
from playwright.sync_api import Browser, expect

from tests.browser.conftest import NewTerminal, NewWindow
from tests.browser.terminal import Modules
from tests.browser.window import COUNT_RECORDS, ask
from tests.support.process import GatewayProcess

QUIET_ZONE = 4


def test_a_newcomer_pairs_chats_approves_and_is_removed(
    idle_gateway: GatewayProcess, new_terminal: NewTerminal, new_window: NewWindow
) -> None:
    terminal = new_terminal(idle_gateway, "up", "--pair")
    link = terminal.link()
    phone = new_window(idle_gateway)

    phone.page.goto(link)
    phone.heading("Pair with Kitchen")
    expect(phone.page).to_have_url(f"{idle_gateway.origin}/pair")  # the secret has left the address bar
    name = phone.page.get_by_label("Name of this device")
    expect(name).not_to_have_value("")
    name.fill("Ada's phone")
    phone.button("Pair").tap()
    digits = phone.digits()
    terminal.wait_for(r"Ada's phone \(web, 127\.0\.0\.1\) wants in")
    terminal.wait_for("six digits")
    assert digits not in terminal.text
    terminal.type(f"{digits[:3]} {digits[3:]}")
    phone.is_in_a_new_chat()
    terminal.wait_for(r"Paired: Ada's phone\.")

    phone.say("hello there, how are you?")
    events = [frame["event"] for frame in phone.frames if frame["type"] == "event"]
    stored = next(n for n, event in enumerate(events) if event.get("data", {}).get("role") == "assistant")
    streamed = [event["delta"] for event in events[:stored] if event["type"] == "TEXT_MESSAGE_CONTENT"]
    assert "".join(streamed) == "hello there, how are you?"

    phone.write("!note buy milk")
    phone.review()
    expect(phone.page.locator(".tool")).to_have_text("note")
    expect(phone.page.locator(".args")).to_have_text("text “buy milk”")
    phone.page.get_by_text("Exact text that is signed").tap()
    expect(phone.page.locator(".exact")).to_have_text(re.compile(r'"args":\{"text":"buy milk"\}.*"tool":"note"'))
    phone.button("Approve").tap()
    phone.sees("Approved. The agent goes on.")
    phone.link("Open the conversation").tap()
    expect(phone.answers.last.locator(".answer")).to_have_text("noted: buy milk")

    phone.write("!note sell the cow")
    phone.review()
    phone.page.get_by_label("Reason").fill("we need her")
    phone.button("Deny").tap()
    phone.sees("Denied. The agent has been told.")
    phone.link("Open the conversation").tap()
    expect(phone.answers.last.locator(".answer")).to_have_text(re.compile("^not noted: sell the cow"))

    assert idle_gateway.cli("devices", "revoke", "Ada's phone").returncode == 0
    phone.heading("This device was removed")
    assert ask(phone.page, COUNT_RECORDS) == {"cache": 0, "device": 0, "drafts": 0, "outbox": 0}

    terminal.press_ctrl_c()
    assert terminal.wait() == 0
    assert "Traceback" not in terminal.text


def test_the_typed_code_pairs_and_voids_the_link_beside_it(
    idle_gateway: GatewayProcess, new_terminal: NewTerminal, new_window: NewWindow
) -> None:
    terminal = new_terminal(idle_gateway, "up", "--pair")
    code = terminal.wait_for(r"or type\s+([0-9A-Z]{4}-[0-9A-Z]{4})\s+on the page (\S+)")
    phone = new_window(idle_gateway)

    phone.page.goto(code[2])
    phone.heading("Pair with Kitchen")
    phone.page.get_by_label("Pairing code").fill(code[1].lower()[:6])
    phone.button("Pair").click()
    phone.sees("this one is not complete")
    phone.page.get_by_label("Pairing code").fill(code[1].lower())
    phone.button("Pair").click()
    terminal.wait_for("six digits")
    terminal.type(phone.digits())
    phone.is_in_a_new_chat()
    terminal.wait_for("Paired: ")
    states = {row["kind"]: row["state"] for row in idle_gateway.ask("pair", "list")}
    assert states == {"code": "paired", "qr": "cancelled"}
    phone.say("typed")


def test_the_terminals_picture_is_the_link_and_the_app_scans_it(
    shared_gateway: GatewayProcess,
    new_terminal: NewTerminal,
    new_window: NewWindow,
    launch: Callable[..., Browser],
    tmp_path: Path,
) -> None:
    terminal = new_terminal(shared_gateway, "pair")
    drawn = terminal.qr_code()
    size = len(drawn[0])
    expected = segno.make_qr(terminal.link(), error="m", boost_error=False).matrix_iter(border=QUIET_ZONE)
    assert drawn[:size] == [[bool(module) for module in row] for row in expected]

    # Reading it back takes a reader that shares nothing with the writer: the app's own, in front of a camera.
    video = tmp_path / "terminal.y4m"
    video.write_bytes(_filmed(drawn))
    browser = launch(
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={video}",
    )
    phone = new_window(shared_gateway, browser=browser, permissions=["camera"])
    phone.open("/pair")
    phone.button("Scan a QR code").click()
    phone.sees("This invitation is good until")
    phone.page.get_by_label("Name of this device").fill("Scanner")
    phone.button("Pair").click()
    terminal.wait_for("Scanner .* wants in")
    terminal.type(phone.digits())
    phone.is_in_a_new_chat()
    terminal.wait_for("Paired: Scanner")
    assert terminal.wait() == 0


def _filmed(modules: Modules, *, pixels: int = 6) -> bytes:
    """The picture as a camera's stream: a few equal frames of YUV4MPEG2, grey only."""
    width, height = len(modules[0]) * pixels, len(modules) * pixels
    width, height = width + width % 2, height + height % 2
    grey = bytearray()
    for row in modules:
        line = b"".join((b"\x10" if dark else b"\xeb") * pixels for dark in row).ljust(width, b"\xeb")
        grey += line * pixels
    picture = bytes(grey).ljust(width * height, b"\xeb") + b"\x80" * (width * height // 2)
    return f"YUV4MPEG2 W{width} H{height} F10:1 Ip A1:1 C420jpeg\n".encode() + (b"FRAME\n" + picture) * 3
