"""Voice on the phone, with Chromium's own microphone: spoken, read, changed, sent; the risky step asks."""

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import NewWindow, make_gateway
from tests.browser.keys import tab_to
from tests.browser.test_pages import Album
from tests.browser.window import DESKTOP, PHONE, Size, Window
from tests.support.process import GatewayProcess
from tests.support.transcriber import KEY, Transcriptions

SPOKEN = "!note run the nightly build for Alpha and deploy to staging"
"""To the agent without a model, `!note` is the step that asks."""
SPEECH = """
window.spoken = [];
window.SpeechSynthesisUtterance = function (text) { this.text = text; };
Object.defineProperty(window, "speechSynthesis", {
  value: { cancel: () => {}, speak: (one) => window.spoken.push(one.text) },
});
"""


@pytest.fixture(scope="module")
def hearing(launch: Callable[..., Browser]) -> Iterator[Browser]:
    """A browser with a microphone that hums, and a person who allows it."""
    running = launch("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
    yield running
    running.close()


@pytest.fixture(scope="module")
def service() -> Iterator[Transcriptions]:
    with Transcriptions(SPOKEN) as running:
        yield running


@pytest.fixture(scope="module")
def speaking(
    tmp_path_factory: pytest.TempPathFactory, tls_folder: Path, service: Transcriptions
) -> Iterator[GatewayProcess]:
    process = make_gateway(tmp_path_factory.mktemp("voice"), tls_folder)
    process.environment |= {
        "ENTOBOT_VOICE__BACKEND": "http",
        "ENTOBOT_VOICE__URL": service.url,
        "ENTOBOT_VOICE__API_KEY": KEY,
    }
    yield process.start()
    process.close()


@pytest.fixture
def phone(hearing: Browser, speaking: GatewayProcess) -> Iterator[Callable[..., Window]]:
    opened: list[Window] = []

    def open_one(size: Size = PHONE) -> Window:
        window = Window(hearing, speaking, size, permissions=["microphone"])
        opened.append(window)
        return window

    yield open_one
    for window in opened:
        window.close()


def speak(window: Window) -> None:
    window.button("Record your voice").click()
    expect(window.page.get_by_role("timer")).to_have_text(re.compile(r"0:(0[1-9]|[1-5]\d)"))
    window.button("Finish recording").click()


def test_a_spoken_command_is_read_changed_and_sent_and_its_step_asks(
    phone: Callable[..., Window], service: Transcriptions
) -> None:
    window = phone()
    window.context.add_init_script(SPEECH)
    window.pair("Voice")
    window.open("/device")
    window.sees("Tap the microphone in a chat to speak.")
    window.page.get_by_label("Read answers aloud").check()
    window.keeps("true", "drafts", ":speech")
    window.open("/chat/new")
    speak(window)
    field = window.page.get_by_label("Message")
    expect(field).to_have_value(SPOKEN)
    window.sees("This is what was heard.")
    assert window.sent.count() == 0, "nothing is sent by speaking"
    heard = service.heard[-1]
    assert (heard.media_type, heard.filename) == ("audio/webm", "recording.webm")
    assert heard.audio.startswith(b"\x1a\x45\xdf\xa3")
    assert window.operator.request("GET", "/api/v1/files")["rows"] == [], "the recording goes with its text"
    field.fill(f"{SPOKEN}, please")
    window.button("Send").click()
    window.asked.click()
    window.button("Approve").click()
    window.sees("Approved. The agent goes on.")
    window.open("/")
    newest = window.page.get_by_role("list", name="Conversations").get_by_role("link").first
    expect(newest).to_contain_text("noted: run the nightly")
    newest.click()
    expect(window.answers.last).to_contain_text("noted: run the nightly build for Alpha and deploy to staging, please")
    assert window.page.evaluate("window.spoken.length") == 0, "what was said before this page is not read"
    window.say("good morning")
    window.page.wait_for_function("window.spoken.length === 1")
    assert window.page.evaluate("window.spoken") == ["good morning"]


def test_a_recording_is_discarded_by_keyboard_and_a_failed_one_is_tried_again(
    phone: Callable[..., Window], service: Transcriptions
) -> None:
    window = phone(DESKTOP)
    window.pair("Keys")
    keyboard = window.page.keyboard
    before = len(service.heard)
    expect(window.button("Record your voice")).to_be_visible()
    tab_to(window, "Record your voice")
    keyboard.press("Enter")
    expect(window.page.get_by_role("timer")).to_be_visible()
    keyboard.press("Escape")
    expect(window.page.get_by_role("timer")).to_have_count(0)
    assert len(service.heard) == before
    service.status = 500
    window.may_lose_network = True
    tab_to(window, "Record your voice")
    keyboard.press("Enter")
    expect(window.button("Finish recording")).to_be_focused()
    expect(window.page.get_by_role("timer")).to_have_text(re.compile(r"0:(0[2-9]|[1-5]\d)"))
    keyboard.press("Enter")
    window.sees("The recording could not be turned into text.")
    service.status, service.text = 200, "the lights, please"
    window.button("Try again").click()
    expect(window.page.get_by_label("Message")).to_have_value("the lights, please")
    service.text = SPOKEN


def test_without_a_transcriber_there_is_no_microphone_and_the_page_says_why(
    shared_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    window = new_window(shared_gateway)
    window.pair("Silent")
    window.open("/device")
    window.sees("No microphone is shown. This gateway transcribes no recordings: voice.backend is 'none'.")
    window.open("/chat/new")
    expect(window.button("Attach files")).to_be_visible()
    expect(window.button("Record your voice")).to_have_count(0)


def test_recording_is_accessible_in_both_themes(phone: Callable[..., Window], service: Transcriptions) -> None:
    window = phone()
    window.pair("Looked at")
    album = Album(window)
    window.button("Record your voice").click()
    expect(window.page.get_by_role("timer")).to_be_visible()
    album.add("voice-recording")
    service.release = threading.Event()
    window.button("Finish recording").click()
    window.sees("Turning it into text…")
    service.release.set()
    window.sees("This is what was heard.")
    service.release = None
    album.add("voice-heard")
    assert album.found == {}
