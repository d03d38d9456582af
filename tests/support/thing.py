"""A script or board with an API key, over a live connection: docs/protocol.md §5 with `api_key`."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import websockets
from websockets.asyncio.client import ClientConnection

from tests.support.phone import Frame, raw_socket
from tests.support.process import GENEROUS_S, GatewayProcess


class Thing:
    def __init__(self, gateway: GatewayProcess, name: str, made: Frame) -> None:
        self.gateway = gateway
        self.name = name
        self.device_id: str = made["device_id"]
        self.api_key: str = made["api_key"]
        self.headers = {"Authorization": f"Bearer {self.api_key}"}

    @classmethod
    def make(cls, gateway: GatewayProcess, name: str, *options: str) -> "Thing":
        return cls(gateway, name, gateway.ask("devices", "add-key", name, *options))

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.gateway.http().request(method, path, headers=self.headers, **options)


async def receive(socket: ClientConnection) -> Frame:
    return json.loads(await asyncio.wait_for(socket.recv(), GENEROUS_S))


async def close_code(socket: ClientConnection) -> int:
    """Read on until the gateway closes."""
    try:
        while True:
            await receive(socket)
    except websockets.ConnectionClosed as end:
        return end.rcvd.code if end.rcvd else 1006


async def open_with(socket: ClientConnection, **auth: Any) -> Frame:
    """Answer `hello` with these credentials and return the `ready` frame."""
    assert (await receive(socket))["type"] == "hello"
    await socket.send(json.dumps({"type": "auth", **auth}))
    ready = await receive(socket)
    assert ready["type"] == "ready", ready
    return ready


async def refused_with(gateway: GatewayProcess, headers: dict[str, str] | None = None, **auth: Any) -> int:
    """The close code for these credentials."""
    origin = (headers or {}).get("Origin")
    async with raw_socket(gateway, origin=origin) as socket:
        await receive(socket)
        await socket.send(json.dumps({"type": "auth", **auth}))
        return await close_code(socket)


@asynccontextmanager
async def opened(gateway: GatewayProcess, **auth: Any) -> AsyncGenerator[ClientConnection]:
    """A connection that is ready."""
    async with raw_socket(gateway) as socket:
        await open_with(socket, **auth)
        yield socket
