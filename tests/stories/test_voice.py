"""What is said into a phone becomes text, the text a run, and its risky step asks."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from entobot.core.errors import Problem
from tests.stories.test_files import refusal
from tests.support.fake_openai import KEY as MODEL_KEY
from tests.support.fake_openai import MODEL, Calls, FakeOpenAI, Text
from tests.support.files import AT, put, raw, upload
from tests.support.phone import connected
from tests.support.process import GatewayProcess
from tests.support.transcriber import KEY, Transcriptions

SAID = "Run the nightly build for Alpha and deploy to staging."
RECORDING = b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm" + b"A_OPUS" + bytes(range(256)) * 40
VOICE = "/api/v1/voice"


@pytest.fixture
async def service() -> AsyncIterator[Transcriptions]:
    with Transcriptions(SAID) as running:
        yield running


def gateway_with(folder: Path, service: Transcriptions, **more: str) -> GatewayProcess:
    settings = {"VOICE__BACKEND": "http", "VOICE__URL": service.url, "VOICE__API_KEY": KEY, **more}
    return GatewayProcess(folder / "home", environment={f"ENTOBOT_{name}": value for name, value in settings.items()})


def transcribe(device: Any, file_id: str) -> dict[str, Any]:
    return device.request("POST", f"{VOICE}/transcriptions", json={"file_id": file_id})


async def test_a_spoken_command_becomes_a_run_whose_risky_step_asks(tmp_path: Path, service: Transcriptions) -> None:
    deploy = json.dumps({"path": "deploy/staging.txt", "content": "alpha"})
    script = (Calls([("c1", "clock", "{}"), ("c2", "files_write", deploy)], text="Building."), Text(["Deployed."]))
    async with FakeOpenAI(*script) as model:
        gateway = gateway_with(
            tmp_path, service, AGENT__BASE_URL=model.base_url, AGENT__API_KEY=MODEL_KEY, AGENT__MODEL=MODEL
        )
        await asyncio.to_thread(gateway.start)
        try:
            device = await asyncio.to_thread(gateway.pair, "Phone")
            async with connected(gateway, device) as phone:
                recording = await asyncio.to_thread(upload, device, "voice.webm", RECORDING)
                heard = await asyncio.to_thread(transcribe, device, recording["file_id"])
                assert heard == {"text": SAID, "file_id": None}
                assert service.heard[0].audio == RECORDING
                gone = await asyncio.to_thread(refusal, device, "GET", f"{AT}/{recording['file_id']}")
                assert gone == "not_found", "the recording goes with its text"
                assert not phone.events("message.created"), "nothing is sent before the person sends it"
                await phone.say(heard["text"])
                asked = (await phone.until_event("approval.requested"))["data"]
                assert asked["title"] == "Write deploy/staging.txt"
                written = gateway.home / "workspace" / "deploy" / "staging.txt"
                assert not written.exists()
                await asyncio.to_thread(device.decide, asked, "approve")
                while (answer := (await phone.until_event("message.created"))["data"])["content"] != "Deployed.":
                    assert answer["content"] in (SAID, "Building.")
                assert written.read_text() == "alpha"
            rows = await asyncio.to_thread(gateway.ask, "audit", "list", "--event", "voice.")
            assert "voice.transcribed" in str(rows)
            assert "nightly" not in str(rows), "what was said is not in the log"
        finally:
            gateway.close()


async def test_what_cannot_be_transcribed_is_refused_and_what_failed_can_be_tried_again(
    tmp_path: Path, service: Transcriptions
) -> None:
    gateway = gateway_with(tmp_path, service, VOICE__MAX_BYTES="20000", VOICE__KEEP_AUDIO="true")
    await asyncio.to_thread(gateway.start)
    try:
        device = await asyncio.to_thread(gateway.pair, "Phone")
        other = await asyncio.to_thread(gateway.pair, "Other")
        await asyncio.to_thread(try_it, device, other, service)
        rows = await asyncio.to_thread(gateway.ask, "audit", "list", "--event", "file.refused")
        assert "too_large" in str(rows)
        assert "type_refused" in str(rows)
    finally:
        gateway.close()


def try_it(device: Any, other: Any, service: Transcriptions) -> None:
    for content, code in ((b"<html>no sound", "type_refused"), (RECORDING * 2, "too_large")):
        file = upload(device, "voice.webm", content)
        with pytest.raises(Problem) as caught:
            transcribe(device, file["file_id"])
        assert caught.value.code == code
        assert refusal(device, "GET", f"{AT}/{file['file_id']}") == "not_found"
    assert service.heard == []
    half = device.request("POST", AT, json={"name": "x", "size": 10})
    with pytest.raises(Problem, match="file_not_whole"):
        transcribe(device, half["file_id"])
    assert put(device, half, 0, bytes(10)).status_code == 200
    file = upload(device, "voice.webm", RECORDING)
    with pytest.raises(Problem, match="not_found"):
        transcribe(other, file["file_id"])
    service.status = 500
    with pytest.raises(Problem) as caught:
        transcribe(device, file["file_id"])
    assert caught.value.code == "transcription_failed"
    assert caught.value.retry
    service.status = 200
    assert transcribe(device, file["file_id"]) == {"text": SAID, "file_id": file["file_id"]}
    device.command("message.send", {"content": SAID, "files": [file["file_id"]]})
    assert raw(device, "GET", f"{AT}/{file['file_id']}/content").headers["content-type"] == "audio/webm"
    with pytest.raises(Problem, match="not_found"):
        transcribe(device, file["file_id"])


def test_without_a_backend_it_is_said_why(shared_gateway: GatewayProcess) -> None:
    device = shared_gateway.pair("Silent")
    found = device.request("GET", VOICE)
    assert (found["available"], found["why"]) == (
        False,
        "This gateway transcribes no recordings: voice.backend is 'none'.",
    )
    with pytest.raises(Problem, match="voice_unavailable"):
        transcribe(device, "fil_00000000000000000000000000")
    assert "voice.backend is 'none'" in shared_gateway.cli("doctor").stdout
