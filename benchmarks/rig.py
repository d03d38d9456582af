"""A gateway on core 0 and the load on core 1, on loopback; medians over rounds."""

import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import picows

from entobot.client.device import Device
from entobot.client.local import LocalGateway
from entobot.client.proofs import dpop_proof
from tests.support.process import ROOMY, GatewayProcess

SERVER_CORE, LOAD_CORE = 0, 1
FAST_LIMITS = {
    **ROOMY,
    "ENTOBOT_LIMITS__UNAUTHENTICATED_PER_ADDRESS": "1000",
    "ENTOBOT_LIMITS__UNAUTHENTICATED": "1000",
    "ENTOBOT_LIMITS__OPENING_PER_ADDRESS": "1000",
    "ENTOBOT_LIMITS__OPENING": "1000",
    "ENTOBOT_LOG__LEVEL": "error",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    name: str
    what: str
    target: str
    measured: str
    met: bool | None


def pin(pid: int, core: int) -> None:
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(pid, {core})


@contextmanager
def running_gateway(**environment: str) -> Generator[GatewayProcess]:
    with tempfile.TemporaryDirectory(prefix="entobot-bench-") as folder:
        pin(0, LOAD_CORE)
        gateway = GatewayProcess(Path(folder, "home"), environment=FAST_LIMITS | environment)
        gateway.start()
        assert gateway.process is not None
        pin(gateway.process.pid, SERVER_CORE)
        try:
            yield gateway
        finally:
            gateway.close()


def paired(gateway: GatewayProcess, name: str) -> Device:
    """As `GatewayProcess.pair`, without a process per step."""
    local = LocalGateway(gateway.home / "gateway.sock")
    invite = local.request("POST", "/api/v1/pairing/invites", json={"kind": "qr", "label": name})
    device = gateway.new_device()
    claim = device.claim(
        secret=invite["secret"], invite_id=invite["invite_id"], device_name=name, platform="web", app_version="1"
    )
    answer = {"claim_id": claim["claim_id"], "code": claim["confirmation_code"]}
    local.request("POST", f"/api/v1/pairing/invites/{invite['invite_id']}/confirm", json=answer)
    assert device.collect(claim["claim_id"], wait_s=0)
    return device


class Socket(picows.WSListener):
    """A phone for benchmarks: frames as bytes to whoever waits, acknowledgements on its own."""

    def __init__(self) -> None:
        self.transport: picows.WSTransport | None = None
        self.inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self.closed = asyncio.get_running_loop().create_future()
        self.on_frame: Callable[[bytes], None] = self.inbox.put_nowait

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.CLOSE:
            if not self.closed.done():
                self.closed.set_result((time.perf_counter(), frame.get_close_code()))
            transport.disconnect()
        elif frame.msg_type == picows.WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        else:
            payload = frame.get_payload_as_bytes()
            if payload.startswith(b'{"type":"event"') and b'"seq":' in payload:
                transport.send(picows.WSMsgType.TEXT, b'{"type":"ack","seq":%d}' % json.loads(payload)["seq"])
            self.on_frame(payload)

    def send(self, frame: dict[str, Any]) -> None:
        assert self.transport is not None
        self.transport.send(picows.WSMsgType.TEXT, json.dumps(frame).encode())

    async def until(self, wanted: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        while True:
            frame = json.loads(await asyncio.wait_for(self.inbox.get(), 60))
            if wanted(frame):
                return frame


async def connect(gateway: GatewayProcess, device: Device) -> Socket:
    _, socket = await picows.ws_connect(  # pyright: ignore[reportUnknownMemberType]  picows leaves **kwargs open
        Socket,
        f"wss://127.0.0.1:{gateway.port}/ws",
        ssl_context=gateway.trust(),
        extra_headers={"Sec-WebSocket-Protocol": "entobot.v1"},
    )
    assert isinstance(socket, Socket)
    hello = await socket.until(lambda frame: frame["type"] == "hello")
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
    socket.send({"type": "auth", "token": token, "proof": proof, "resume": None})
    await socket.until(lambda frame: frame["type"] == "snapshot" and not frame.get("more"))
    return socket


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: list[float]) -> float:
    return statistics.median(values)
