"""What a file is shown as depends on its bytes alone."""

import pytest

from entobot.files.sniffing import BYTES, SHOWN, TEXT, media_type_of

WEBM = b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm"
MP4 = b"\0\0\0\x18ftypmp42\0\0\0\0"
KNOWN = {
    "png": (b"\x89PNG\r\n\x1a\n\0\0", "image/png"),
    "jpeg": (b"\xff\xd8\xff\xe0\0", "image/jpeg"),
    "gif": (b"GIF89a\x01", "image/gif"),
    "webp": (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
    "wav": (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav"),
    "ogg": (b"OggS\0\x02", "audio/ogg"),
    "mp3 with a tag": (b"ID3\x04\0", "audio/mpeg"),
    "mp3": (b"\xff\xfb\x90\x64", "audio/mpeg"),
    "a recording of Chromium": (WEBM + b"A_OPUS", "audio/webm"),
    "a recording of iOS": (MP4 + b"hdlr\0\0soun", "audio/mp4"),
    "m4a": (b"\0\0\0\x18ftypM4A \0", "audio/mp4"),
    "a film": (WEBM + b"V_VP9A_OPUS", "video/webm"),
    "a film of iOS": (MP4 + b"hdlrvide hdlrsoun", "video/mp4"),
    "pdf": (b"%PDF-1.7", "application/pdf"),
    "text": ("Grüße\n".encode(), TEXT),
    "text that is cut in a character": ("Grü".encode()[:-1], TEXT),
    "html": (b"<!doctype html><script>alert(1)</script>", TEXT),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', TEXT),
    "a picture in name only": (b"\x89PN", BYTES),
    "a web page behind a zero": (b"<html>\0", BYTES),
    "latin-1": (b"caf\xe9 au lait", BYTES),
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_content_says_what_it_is(name: str) -> None:
    head, expected = KNOWN[name]
    assert media_type_of(head) == expected


def test_nothing_that_runs_is_ever_shown() -> None:
    assert not [shown for shown in SHOWN if "svg" in shown or not shown.startswith(("image/", "audio/"))]
