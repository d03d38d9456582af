"""An agent behind a URL on loopback: it checks the signature of what it is posted, and says back the newest message."""

import asyncio
import base64
import json
import time
from typing import Any, Self

from entobot.core.webhook_signing import decode_secret, verify
from tests.support.served import Served

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


class WebhookAgent:
    """`answers` are given instead, in order: (status, body)."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.answers: list[tuple[int, bytes]] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = Served(self._serve)
        self.url = f"http://127.0.0.1:{self._server.port}/agent"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readline()).decode()
        headers: dict[str, str] = {}
        while (raw := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = raw.decode().partition(":")
            headers[name.strip().lower()] = value.strip()
        body = await reader.readexactly(int(headers["content-length"]))
        assert line.startswith("POST /agent ")
        now_s = int(time.time())
        self.ids.append(verify(decode_secret(SECRET), headers, body, now_s))
        said = json.loads(body)
        self.bodies.append(said)
        answer = json.dumps({"text": said["messages"][-1]["content"]}).encode()
        status, data = self.answers.pop(0) if self.answers else (200, answer)
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        await writer.drain()
