"""Files in the chat: picked, pasted and dropped, shown as pictures or saved, refused with the reason."""

import base64
import struct
import zlib
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NewWindow
from tests.browser.keys import tab_to
from tests.browser.test_pages import Album
from tests.browser.window import DESKTOP, PHONE, Size, Window
from tests.support.process import GatewayProcess


def png(width: int = 320, height: int = 200) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes((x % 256, y, 140)[n] for x in range(width) for n in range(3)) for y in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


PICTURE = {"name": "Cat.png", "mimeType": "image/png", "buffer": png()}
NOISE = bytes(range(256)) * 2500
BINARY = {"name": "Board.bin", "mimeType": "application/octet-stream", "buffer": NOISE}
HAND_OVER = """([target, kind, base64, name]) => {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, { type: "text/plain" }));
  const event = kind === "paste" ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true })
    : new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
  document.querySelector(target).dispatchEvent(event);
}"""


def pick(window: Window, *files: object) -> None:
    window.page.locator("input[type=file][multiple]").set_input_files(files)  # pyright: ignore[reportArgumentType]  payloads as dicts


def hand_over(page: Page, kind: str, name: str, content: bytes) -> None:
    page.evaluate(HAND_OVER, ["textarea", kind, base64.b64encode(content).decode(), name])


def picture_is_drawn(window: Window, name: str) -> None:
    shown = window.sent.last.get_by_alt_text(name)
    expect(shown).to_be_visible()
    assert shown.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 320


def test_files_are_sent_and_saved_again_byte_for_byte(
    shared_gateway: GatewayProcess, new_window: NewWindow, tmp_path: Path
) -> None:
    window = new_window(shared_gateway)
    window.pair("Files")
    page = window.page
    pick(window, PICTURE, BINARY)
    expect(page.get_by_text("Ready,")).to_have_count(2)
    window.button("Send").click()
    picture_is_drawn(window, "Cat.png")
    with page.expect_download() as waiting:
        window.button("Save Board.bin").click()
    waiting.value.save_as(tmp_path / "saved")
    assert (tmp_path / "saved").read_bytes() == NOISE
    window.button("Show Cat.png").click()
    expect(page.get_by_role("dialog", name="Cat.png")).to_be_visible()
    with page.expect_download() as waiting:
        window.button("Save").click()
    assert waiting.value.suggested_filename == "Cat.png"
    page.keyboard.press("Escape")

    hand_over(page, "paste", "pasted.txt", b"from the clipboard")
    hand_over(page, "drop", "dropped.txt", b"from a window")
    expect(page.get_by_text("Ready,")).to_have_count(2)
    window.button("Remove dropped.txt").click()
    window.write("Read it")
    expect(window.sent.last).to_contain_text("pasted.txt")
    expect(window.sent.last).to_contain_text("Read it")
    expect(window.answers.last).to_contain_text("from the clipboard")

    page.reload()
    expect(window.sent.first.get_by_alt_text("Cat.png")).to_be_visible()
    left = [row["name"] for row in window.operator.request("GET", "/api/v1/files")["rows"]]
    assert sorted(left) == ["Board.bin", "Cat.png", "pasted.txt"], "what was taken back is gone from the gateway"


def test_what_is_refused_says_why_and_a_lost_part_is_sent_again(
    idle_gateway: GatewayProcess, new_window: NewWindow
) -> None:
    idle_gateway.environment |= {"ENTOBOT_FILES__MAX_BYTES": "700000", "ENTOBOT_FILES__TYPES": "image/*"}
    idle_gateway.start()
    window = new_window(idle_gateway)
    window.pair("Refused")
    page = window.page
    pick(
        window,
        BINARY,
        {**BINARY, "name": "Huge.bin", "buffer": bytes(700_001)},
        {**BINARY, "name": "No.bin", "buffer": b""},
    )
    window.sees("The gateway does not take files of this kind.")
    window.sees("Too large. The gateway takes 700 kB at most.")
    window.sees("This file is empty.")
    expect(window.button("Send")).to_be_disabled()
    for name in ("Board.bin", "Huge.bin", "No.bin"):
        window.button(f"Remove {name}").click()
    window.may_lose_network = True
    lost: list[str] = []

    def lose_once(route: object, request: object) -> None:
        if request.method == "PUT" and not lost:  # pyright: ignore[reportAttributeAccessIssue]  Playwright's own types
            lost.append(request.url)  # pyright: ignore[reportAttributeAccessIssue]  as above
            route.abort()  # pyright: ignore[reportAttributeAccessIssue]  as above
        else:
            route.continue_()  # pyright: ignore[reportAttributeAccessIssue]  as above

    page.route("**/parts/*", lose_once)
    pick(window, PICTURE)
    window.sees("Ready,")
    assert lost
    window.button("Send").click()
    picture_is_drawn(window, "Cat.png")


@pytest.mark.parametrize(("name", "size"), [("phone", PHONE), ("desktop", DESKTOP)])
def test_files_are_accessible_in_both_themes_and_by_keyboard(
    shared_gateway: GatewayProcess, new_window: NewWindow, name: str, size: Size
) -> None:
    window = new_window(shared_gateway, size)
    window.pair("Looked at")
    album = Album(window, name)
    pick(window, PICTURE, BINARY, {**BINARY, "name": "Nothing.bin", "buffer": b""})
    expect(window.page.get_by_text("Ready,")).to_have_count(2)
    album.add("files-picked")
    tab_to(window, "Remove Nothing.bin")
    window.page.keyboard.press("Enter")
    expect(window.page.get_by_text("Nothing.bin")).to_have_count(0)
    tab_to(window, "Send")
    window.page.keyboard.press("Enter")
    picture_is_drawn(window, "Cat.png")
    album.add("files-sent")
    tab_to(window, "Show Cat.png")
    window.page.keyboard.press("Enter")
    album.add("file-shown")
    assert album.found == {}
