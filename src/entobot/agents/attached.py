"""What a model is given of the files of the message that it answers: small texts, and pictures if it sees."""

from collections.abc import Callable
from dataclasses import replace

from entobot.agents.runner import Line, LineFile
from entobot.files.service import Files
from entobot.storage.database import Database

MAX_TEXT_BYTES = 64 * 1024
MAX_PICTURES_BYTES = 4 * 1024 * 1024
"""In all of one message. Pictures are kept with the run until it ends: they are sent again with each turn."""
PICTURES = frozenset({"image/gif", "image/jpeg", "image/png", "image/webp"})


class Attached:
    """`sees` says whether the model that answers now takes pictures."""

    def __init__(self, database: Database, files: Files, sees: Callable[[], bool]) -> None:
        self._database = database
        self._files = files
        self._sees = sees

    async def read(self, transcript: tuple[Line, ...]) -> tuple[Line, ...]:
        """The same, with the content of files in its last line. Earlier ones stay named only."""
        if not transcript or not transcript[-1].files:
            return transcript
        line = transcript[-1]
        left = {"text": MAX_TEXT_BYTES, "image": MAX_PICTURES_BYTES if self._sees() else 0}
        files = [await self._read(file, left) for file in line.files]
        return (*transcript[:-1], replace(line, files=tuple(files)))

    async def _read(self, file: LineFile, left: dict[str, int]) -> LineFile:
        is_text = file.media_type == "text/plain"
        if not is_text and file.media_type not in PICTURES:
            return file
        kind = "text" if is_text else "image"
        data = await self._files.small(self._database, file.file_id, left[kind]) if file.size <= left[kind] else None
        left[kind] -= len(data or b"")
        return replace(file, data=data)
