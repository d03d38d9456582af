"""A picture goes from one phone through the gateway to the person's other devices, and to nobody else's."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from entobot.client.device import Device
from entobot.core.errors import Problem
from entobot.files.model import PART_BYTES
from tests.support.files import AT, put, raw, upload
from tests.support.operator import Operator
from tests.support.phone import connected
from tests.support.process import GatewayProcess

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4000
PAGE = b"<!doctype html><script>alert(document.domain)</script>"


@pytest.fixture
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(
        tmp_path_factory.mktemp("files") / "home", environment={"ENTOBOT_FILES__MAX_BYTES": str(4 * PART_BYTES)}
    ).start()
    yield process
    process.close()


def refusal(device: Device, method: str, path: str, **options: Any) -> str:
    with pytest.raises(Problem) as caught:
        device.request(method, path, **options)
    return caught.value.code


async def test_a_picture_survives_a_kill_half_way_and_reaches_the_person_only(gateway: GatewayProcess) -> None:
    phone = await asyncio.to_thread(gateway.pair, "Phone")
    file = phone.request("POST", AT, json={"name": "Cat ☂.png", "size": len(PICTURE)})
    assert put(phone, file, 1, PICTURE).status_code == 200
    gateway.kill()
    await asyncio.to_thread(gateway.start)
    assert phone.request("GET", f"{AT}/{file['file_id']}")["missing"] == [0]
    assert put(phone, file, 0, PICTURE).status_code == 200
    whole = phone.request("POST", f"{AT}/{file['file_id']}/finish")
    assert (whole["media_type"], whole["state"]) == ("image/png", "kept")

    tablet = await asyncio.to_thread(gateway.pair, "Tablet")
    async with connected(gateway, tablet) as seen:
        sent = phone.command("message.send", {"content": "", "files": [file["file_id"]]})
        told = (await seen.until_event("message.created"))["data"]
    shown = {"file_id": file["file_id"], "name": "Cat ☂.png", "media_type": "image/png", "size": len(PICTURE)}
    assert told["files"] == [shown]
    rows = tablet.request("GET", f"/api/v1/conversations/{sent['conversation_id']}/messages")["rows"]
    assert rows[-1]["files"] == [shown]

    content = raw(tablet, "GET", f"{AT}/{file['file_id']}/content")
    assert content.content == PICTURE
    assert content.headers["content-type"] == "image/png"
    assert content.headers["content-disposition"] == "inline; filename*=UTF-8''Cat%20%E2%98%82.png"
    assert content.headers["x-content-type-options"] == "nosniff"
    assert content.headers["content-security-policy"].startswith("sandbox; default-src 'none'")

    operator = Operator(gateway)
    ann = await asyncio.to_thread(operator.add_user, "Ann")
    stranger = await asyncio.to_thread(operator.pair, "Stranger", user_id=ann)
    for path in (f"{AT}/{file['file_id']}", f"{AT}/{file['file_id']}/content"):
        assert refusal(stranger, "GET", path) == "not_found"
    assert refusal(stranger, "DELETE", f"{AT}/{file['file_id']}") == "not_found"
    assert stranger.request("GET", AT)["rows"] == []
    assert [row["file_id"] for row in tablet.request("GET", AT)["rows"]] == [file["file_id"]]


def test_a_page_is_never_shown_and_too_much_is_refused(gateway: GatewayProcess) -> None:
    phone = gateway.pair("Phone")
    page = upload(phone, "cat.png", PAGE)
    assert page["media_type"] == "text/plain"
    content = raw(phone, "GET", f"{AT}/{page['file_id']}/content")
    assert content.headers["content-type"] == "application/octet-stream"
    assert content.headers["content-disposition"].startswith("attachment")
    assert refusal(phone, "POST", AT, json={"name": "x", "size": 4 * PART_BYTES + 1}) == "too_large"
    file = phone.request("POST", AT, json={"name": "x", "size": PART_BYTES})
    assert put(phone, file, 0, bytes(PART_BYTES + 1)[: PART_BYTES - 1]).json()["code"] == "invalid"
    assert raw(phone, "PUT", f"{AT}/{file['file_id']}/parts/0", content=b"{}").json()["code"] == "invalid"
    assert refusal(phone, "POST", f"{AT}/{file['file_id']}/finish") == "file_not_whole"
    assert refusal(phone, "POST", "/api/v1/commands", json=send(phone, file)) == "file_not_whole"
    raw(phone, "DELETE", f"{AT}/{page['file_id']}")
    assert refusal(phone, "GET", f"{AT}/{page['file_id']}/content") == "not_found"


def send(device: Device, file: dict[str, Any]) -> dict[str, Any]:
    return {"id": device.new_id(), "name": "message.send", "data": {"content": "x", "files": [file["file_id"]]}}
