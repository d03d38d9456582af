"""What may be transcribed, and what a transcript may be. Pure."""

import unicodedata

EXTENSIONS = {
    "audio/mp4": "m4a",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
    "audio/wav": "wav",
    "audio/webm": "webm",
}
"""Kinds of recordings that browsers make, by their content, and the endings by which programs know them."""
MAX_TEXT_CHARACTERS = 16_000


def checked_text(text: str) -> str:
    """One transcript as a person may send it: printable, bounded, no space around it."""
    kept = "".join(c for c in text if c in "\n\t" or not unicodedata.category(c).startswith("C"))
    return kept.strip()[:MAX_TEXT_CHARACTERS]
