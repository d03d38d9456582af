"""A phone's live connection, written from docs/protocol.md §5 alone."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection, connect

from entobot.client.device import Device
from entobot.client.proofs import dpop_proof
from tests.support.process import GENEROUS_S, GatewayProcess

Frame = dict[str, Any]


class Phone:
    """Keeps every frame; acknowledges durable events; remembers where it is for the next connection."""

    def __init__(self, device: Device, socket: ClientConnection) -> None:
        self.device = device
        self.frames: list[Frame] = []
        self.seen = 0
        self._socket = socket

    async def receive(self) -> Frame:
        frame: Frame = json.loads(await asyncio.wait_for(self._socket.recv(), GENEROUS_S))
        self.frames.append(frame)
        if frame["type"] == "event" and "seq" in frame:
            self.seen = frame["seq"]
            await self.send({"type": "ack", "seq": self.seen})
        return frame

    async def until(self, wanted: Callable[[Frame], object]) -> Frame:
        while True:
            frame = await self.receive()
            if wanted(frame):
                return frame

    async def until_event(self, kind: str) -> Frame:
        return (await self.until(lambda frame: frame["type"] == "event" and frame["event"]["type"] == kind))["event"]

    async def send(self, frame: Frame) -> None:
        await self._socket.send(json.dumps(frame))

    async def command(self, name: str, data: Frame, command_id: str | None = None) -> Frame:
        """Send it and return its result or error frame."""
        command_id = command_id or self.device.new_id()
        await self.send({"type": "command", "id": command_id, "name": name, "data": data})
        return await self.until(lambda frame: frame.get("id") == command_id)

    async def say(self, text: str, **more: Any) -> Frame:
        answer = await self.command("message.send", {"content": text, **more})
        assert answer["type"] == "result", answer
        return answer["data"]

    async def closed(self) -> int:
        """Read on until the gateway closes; the close code."""
        try:
            while True:
                await self.receive()
        except websockets.ConnectionClosed as end:
            return end.rcvd.code if end.rcvd else 1006

    def events(self, kind: str) -> list[Frame]:
        return [f["event"] for f in self.frames if f["type"] == "event" and f["event"]["type"] == kind]


@asynccontextmanager
async def raw_socket(gateway: GatewayProcess, **options: Any) -> AsyncGenerator[ClientConnection]:
    options.setdefault("subprotocols", ["entobot.v1"])
    options.setdefault("max_queue", None)  # a client that pauses reading would not see the end for ten seconds
    url = gateway.address.replace("https", "wss") + "/ws"
    async with connect(url, ssl=gateway.trust(), compression=None, **options) as socket:
        yield socket


async def authenticate(socket: ClientConnection, device: Device, resume: Frame | None = None) -> Frame:
    """Answer `hello` with `auth`; the hello frame."""
    hello: Frame = json.loads(await asyncio.wait_for(socket.recv(), GENEROUS_S))
    assert device.credentials is not None
    token = device.credentials.access_token
    proof = dpop_proof(
        device.key,
        method="GET",
        url=f"{device.origin}/ws",
        now_ms=device.clock.now_ms(),
        entropy=device.entropy,
        access_token=token,
        nonce=hello["nonce"],
    )
    await socket.send(json.dumps({"type": "auth", "token": token, "proof": proof, "resume": resume}))
    return hello


@asynccontextmanager
async def connected(gateway: GatewayProcess, device: Device, resume: Frame | None = None) -> AsyncGenerator[Phone]:
    """A phone that is ready: its snapshot or replay may still be on the way."""
    async with raw_socket(gateway) as socket:
        await authenticate(socket, device, resume)
        phone = Phone(device, socket)
        await phone.until(lambda frame: frame["type"] == "ready")
        yield phone
