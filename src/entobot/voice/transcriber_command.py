"""Adapter for a program of this machine. It gets no shell, nothing of our environment, and a bounded time."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from entobot.config_voice import FILE_MARK
from entobot.voice.model import EXTENSIONS
from entobot.voice.transcriber import Fault, NotTranscribed, Recording

MAX_OUTPUT_BYTES = 256 * 1024
PREFIX = "recording-"
LEFT_AFTER = timedelta(hours=1)
"""Longer than any program may run."""
KEPT_VARIABLES = ("HOME", "PATH", "TMPDIR")
"""Of the gateway's environment. Keys of models stand in it, too, and no program but ours is to see them."""


class CommandTranscriber:
    """See `Transcriber`. `folder` is ours alone: recordings lie there while the program runs."""

    def __init__(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], timeout: timedelta
    ) -> None:
        self._command = tuple(command)
        self._folder = folder
        self._environment = {name: environment[name] for name in KEPT_VARIABLES if name in environment}
        self._timeout = timeout

    async def transcribe(self, recording: Recording) -> str:
        folder = await asyncio.to_thread(self._make_folder)
        try:
            file = folder / f"recording.{EXTENSIONS[recording.media_type]}"
            async for part in recording.content:
                await asyncio.to_thread(_append, file, part)
            return await self._run(file)
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))

    def _make_folder(self) -> Path:
        """What a crash left there an hour ago or longer goes now."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._folder))
        old_s = made.stat().st_mtime - LEFT_AFTER.total_seconds()
        for left in self._folder.glob(f"{PREFIX}*"):
            with suppress(OSError):
                if left.stat().st_mtime < old_s:
                    shutil.rmtree(left, ignore_errors=True)
        return made

    async def _run(self, file: Path) -> str:
        has_mark = any(FILE_MARK in word for word in self._command)
        words = [word.replace(FILE_MARK, str(file)) for word in self._command]
        standard_input = None if has_mark else await asyncio.to_thread(file.open, "rb")
        # A pipe of our own: asyncio's would have `wait` wait for whoever else holds it open.
        output, end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=standard_input or asyncio.subprocess.DEVNULL,
                stdout=end,
                stderr=asyncio.subprocess.DEVNULL,
                cwd=file.parent,
                env=self._environment,
                start_new_session=True,
            )
        except BaseException as error:
            os.close(output)
            if not isinstance(error, OSError):
                raise
            said = "The transcription program cannot be started. Whoever runs this gateway must check voice.command."
            raise NotTranscribed(Fault.UNREACHABLE, said) from None
        finally:
            os.close(end)
            if standard_input is not None:
                standard_input.close()
        return await self._read(process, output)

    async def _read(self, process: asyncio.subprocess.Process, output: int) -> str:
        reader = asyncio.StreamReader()
        pipe = os.fdopen(output, "rb", buffering=0)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                text = await _at_most(reader, MAX_OUTPUT_BYTES)
                is_done = text is not None and await process.wait() == 0
        except TimeoutError:
            raise NotTranscribed(Fault.TIMEOUT, "The transcription program did not end in time.") from None
        finally:
            transport.close()
            await _end(process)
        if not is_done or text is None:
            raise NotTranscribed(Fault.NOT_TAKEN, "The transcription program could not read the recording.")
        return text.decode("utf-8", "replace")


async def _at_most(stream: asyncio.StreamReader, count: int) -> bytes | None:
    """Everything, or None where there is more."""
    output = b""
    while chunk := await stream.read(16 * 1024):
        output += chunk
        if len(output) > count:
            return None
    return output


async def _end(process: asyncio.subprocess.Process) -> None:
    """It and what it started: they have a session of their own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await asyncio.shield(process.wait())


def _append(file: Path, data: bytes) -> None:
    with file.open("ab") as opened:
        opened.write(data)
