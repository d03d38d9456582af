"""Both ways of getting a text: what they send and run, and what they make of services and programs that misbehave."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from entobot.core.secrets import SystemEntropy
from entobot.voice.model import checked_text
from entobot.voice.transcriber import Fault, NotTranscribed, Recording, Transcriber
from entobot.voice.transcriber_command import CommandTranscriber
from entobot.voice.transcriber_http import MAX_ANSWER_BYTES, HttpTranscriber
from tests.support.transcriber import KEY, Transcriptions

AUDIO = b"OggS" + bytes(range(256)) * 100
PATIENT = timedelta(seconds=20)


async def parts(audio: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(audio), 1000):
        yield audio[start : start + 1000]


def recording() -> Recording:
    return Recording("audio/ogg", len(AUDIO), parts(AUDIO))


def asking(service: Transcriptions, timeout: timedelta = PATIENT, **more: Any) -> HttpTranscriber:
    known: dict[str, Any] = {"key": lambda: KEY, "check": lambda _: None}
    fields = {"model": "whisper-1", "language": ""}
    return HttpTranscriber(service.url, fields, timeout=timeout, entropy=SystemEntropy(), **known | more)


async def fault(transcriber: Transcriber) -> NotTranscribed:
    with pytest.raises(NotTranscribed) as caught:
        await transcriber.transcribe(recording())
    assert "SECRET" not in caught.value.said
    return caught.value


async def test_a_service_gets_the_recording_as_it_is_and_only_fields_that_are_set() -> None:
    with Transcriptions("Guten Tag") as service:
        assert await asking(service).transcribe(recording()) == "Guten Tag"
    (heard,) = service.heard
    assert heard.fields == {"model": "whisper-1", "response_format": "json"}
    assert (heard.filename, heard.media_type, heard.audio) == ("recording.ogg", "audio/ogg", AUDIO)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"status": 400}, Fault.NOT_TAKEN),
        ({"status": 500, "body": b"SECRET"}, Fault.NOT_TAKEN),
        ({"body": b"<html>SECRET"}, Fault.NOT_TAKEN),
        ({"body": b'["SECRET"]'}, Fault.NOT_TAKEN),
        ({"body": b'{"text": 1}'}, Fault.NOT_TAKEN),
        ({"body": b'{"text": "' + b"x" * MAX_ANSWER_BYTES + b'"}'}, Fault.NOT_TAKEN),
        ({"status": 307, "redirect": "http://127.0.0.1:9/"}, Fault.NOT_TAKEN),
    ],
    ids=["refusal", "failure", "page", "list", "number", "endless", "redirect"],
)
async def test_a_service_that_misbehaves_gives_no_text(said: dict[str, Any], expected: Fault) -> None:
    with Transcriptions(**said) as service:
        assert (await fault(asking(service))).fault is expected


async def test_a_service_that_refuses_is_away_or_silent_is_told_apart() -> None:
    with Transcriptions(release=threading.Event()) as service:
        assert (await fault(asking(service, key=lambda: "another"))).fault is Fault.UNAUTHORIZED
        assert (await fault(asking(service, timedelta(seconds=0.3)))).fault is Fault.TIMEOUT

        def refuse(_: str) -> None:
            raise ValueError

        asked = len(service.heard)
        assert (await fault(asking(service, check=refuse))).fault is Fault.UNREACHABLE
        assert len(service.heard) == asked
    assert (await fault(asking(service))).fault is Fault.UNREACHABLE


def running(folder: Path, code: str, *arguments: str, timeout: timedelta = PATIENT) -> CommandTranscriber:
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/", "OPENAI_API_KEY": "SECRET"}
    return CommandTranscriber((sys.executable, "-c", code, *arguments), folder / "recordings", environment, timeout)


async def test_a_program_gets_the_recording_by_file_or_input_and_none_of_our_secrets(tmp_path: Path) -> None:
    told = "import os, sys; print(len({}), sys.argv[1:] and sys.argv[1][-13:], sorted(os.environ))"
    by_file = running(tmp_path, told.format("open(sys.argv[1], 'rb').read()"), "{file}")
    assert (await by_file.transcribe(recording())).startswith(f"{len(AUDIO)} recording.ogg ['HOME'")
    by_input = running(tmp_path, told.format("sys.stdin.buffer.read()"))
    heard = await by_input.transcribe(recording())
    assert heard.startswith(f"{len(AUDIO)} []")
    assert "OPENAI" not in heard
    assert (tmp_path / "recordings").stat().st_mode & 0o777 == 0o700
    assert list((tmp_path / "recordings").iterdir()) == []


async def test_what_a_crash_left_goes_with_a_later_recording(tmp_path: Path) -> None:
    left = tmp_path / "recordings" / "recording-x"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    await running(tmp_path, "print(1)").transcribe(recording())
    assert not left.exists()


async def test_arguments_are_never_read_by_a_shell(tmp_path: Path) -> None:
    shown = running(tmp_path, "import sys; print(sys.argv[1:])", "$(id); {file} | cat > x")
    assert "$(id); /" in await shown.transcribe(recording())


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import sys; print('half'); sys.exit(3)", Fault.NOT_TAKEN),
        ("while True: print('x' * 1000)", Fault.NOT_TAKEN),
    ],
    ids=["fails", "endless"],
)
async def test_a_program_that_misbehaves_gives_no_text(tmp_path: Path, code: str, expected: Fault) -> None:
    assert (await fault(running(tmp_path, code))).fault is expected
    assert list((tmp_path / "recordings").iterdir()) == []


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_program_that_hangs_ends_with_what_it_started(tmp_path: Path) -> None:
    alive = tmp_path / "pid"
    code = (
        "import subprocess, sys, time; child = subprocess.Popen(['sleep', '600']); "
        f"open({str(alive)!r}, 'w').write(str(child.pid)); time.sleep(600)"
    )
    assert (await fault(running(tmp_path, code, timeout=timedelta(seconds=10)))).fault is Fault.TIMEOUT
    for _ in range(500):
        if not is_alive(int(alive.read_text())):
            break
        await asyncio.sleep(0.01)
    else:
        pytest.fail("what the program started lives on")
    missing = CommandTranscriber(("/nowhere/whisper",), tmp_path / "recordings", {}, PATIENT)
    assert (await fault(missing)).fault is Fault.UNREACHABLE


def test_a_transcript_is_text_that_a_person_may_send() -> None:
    assert checked_text("  run\x00 it\u202e\nnow ") == "run it\nnow"
    assert len(checked_text("x" * 20_000)) == 16_000
