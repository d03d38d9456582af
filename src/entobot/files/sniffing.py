"""What a file is, by its first bytes. Names and headers of senders are not believed.

Our own table, since it answers one question only: may a browser be shown this as a picture or as sound? Everything that
it does not know is text or plain bytes, and downloaded.
"""

import codecs

TEXT = "text/plain"
BYTES = "application/octet-stream"
SHOWN = frozenset(
    {
        "audio/mp4",
        "audio/mpeg",
        "audio/ogg",
        "audio/wav",
        "audio/webm",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
    }
)
"""Raster images and sound: what is served with its own type and may stand in a page. No format of these runs anything."""

_STARTS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"PK\x05\x06", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
_AUDIO_BRANDS = frozenset({b"M4A ", b"M4B ", b"F4A "})
_IMAGE_BRANDS = {b"avif": "image/avif", b"heic": "image/heic", b"mif1": "image/heif"}
_MATROSKA = b"\x1a\x45\xdf\xa3"
_VIDEO_TRACK = (b"V_VP8", b"V_VP9", b"V_AV1", b"V_MPEG")
_SOUND_TRACK = b"A_OPUS", b"A_VORBIS"
HEAD_BYTES = 64 * 1024
"""Enough for every rule here."""


def media_type_of(head: bytes) -> str:
    """Of a file that begins with `head`."""
    head = head[:HEAD_BYTES]
    for start, found in _STARTS:
        if head.startswith(start):
            return found
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12], BYTES)
    if head[4:8] == b"ftyp":
        return _mp4(head)
    if head.startswith(_MATROSKA):
        return _webm(head)
    if _is_mpeg_audio(head):
        return "audio/mpeg"
    return TEXT if _is_text(head) else BYTES


def _mp4(head: bytes) -> str:
    """Recorders of sound write general brands: a box that says `vide` makes it a film, `soun` alone does not."""
    brand = head[8:12]
    if brand in _IMAGE_BRANDS:
        return _IMAGE_BRANDS[brand]
    is_sound = brand in _AUDIO_BRANDS or (b"vide" not in head and b"avc1" not in head)
    return "audio/mp4" if is_sound else "video/mp4"


def _webm(head: bytes) -> str:
    if b"webm" not in head[:64]:
        return BYTES
    if any(track in head for track in _VIDEO_TRACK):
        return "video/webm"
    return "audio/webm" if any(track in head for track in _SOUND_TRACK) else "video/webm"


def _is_mpeg_audio(head: bytes) -> bool:
    """The head of an MPEG audio frame, layer III (ISO/IEC 11172-3 §2.4.2.3)."""
    return len(head) > 3 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2 and head[2] & 0xF0 != 0xF0


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return not any(byte < 0x20 and byte not in b"\t\n\f\r\x1b" for byte in head)
