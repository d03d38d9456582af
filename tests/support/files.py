"""Files of a device, by the requests that docs/protocol.md describes."""

from typing import Any

import httpx

from entobot.client.device import Device
from entobot.files.model import PART_BYTES

AT = "/api/v1/files"


def raw(device: Device, method: str, path: str, **options: Any) -> httpx.Response:
    headers = device._headers(method, path) | options.pop("headers", {})
    return device.http.request(method, path, headers=headers, **options)


def put(device: Device, file: dict[str, Any], number: int, content: bytes) -> httpx.Response:
    data = content[number * PART_BYTES : (number + 1) * PART_BYTES]
    path = f"{AT}/{file['file_id']}/parts/{number}"
    return raw(device, "PUT", path, content=data, headers={"Content-Type": "application/octet-stream"})


def upload(device: Device, name: str, content: bytes) -> dict[str, Any]:
    file = device.request("POST", AT, json={"name": name, "size": len(content)})
    for number in file["missing"]:
        assert put(device, file, number, content).status_code == 200
    return device.request("POST", f"{AT}/{file['file_id']}/finish")


def read(device: Device, file: dict[str, Any]) -> bytes:
    answer = raw(device, "GET", f"{AT}/{file['file_id']}/content")
    assert answer.status_code == 200, answer.text
    return answer.content
