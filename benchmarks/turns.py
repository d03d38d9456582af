"""P5 command round trip, P8 turns, P9 approvals, P10 revoke."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import picows

from benchmarks.echo_ws import cpu_s
from benchmarks.rig import (
    LOAD_CORE,
    SERVER_CORE,
    Figure,
    Socket,
    connect,
    median,
    milliseconds,
    paired,
    percentile,
    pin,
    running_gateway,
)
from entobot.client.proofs import decision_signature
from tests.support.process import ROOT, GatewayProcess, free_port

SEQUENTIAL = 2000
BUSY_CONNECTIONS = 64
BUSY_S = 4.0
TURNS = 50


def is_event(kind: str) -> Callable[[dict], bool]:
    return lambda frame: frame["type"] == "event" and frame["event"]["type"] == kind


async def round_trips(gateway: GatewayProcess) -> list[Figure]:
    device = await asyncio.to_thread(paired, gateway, "one")
    socket = await connect(gateway, device)
    times: list[float] = []
    for _ in range(SEQUENTIAL):
        command_id = device.new_id()
        began = time.perf_counter()
        socket.send({"type": "command", "id": command_id, "name": "conversation.list", "data": {}})
        await socket.until(lambda frame, wanted=command_id: frame.get("id") == wanted)
        times.append(time.perf_counter() - began)
    p50, p99 = median(times), percentile(times, 0.99)
    ours = await busy_load(gateway)
    bare = await bare_load(gateway)
    ratio = bare.server_us / ours.server_us
    return [
        Figure("P5", "command round trip over TLS, p50", "≤ 0.2 ms", milliseconds(p50), p50 <= 0.0002),
        Figure("P5", "command round trip over TLS, p99", "≤ 1 ms", milliseconds(p99), p99 <= 0.001),
        Figure(
            "P5",
            f"commands a core, {BUSY_CONNECTIONS} TLS connections, against bare picows echo",
            "≥ 0.4×",
            f"{ratio:.2f}× ({ours}; bare: {bare})",
            ratio >= 0.4,
        ),
    ]


@dataclass(frozen=True, slots=True)
class Load:
    """`server_us` is the server's CPU time a message: the load may need its core before the server does."""

    per_s: float
    server_us: float
    load_share: float

    def __str__(self) -> str:
        return f"{self.per_s:.0f}/s, {self.server_us:.0f} µs each, load at {self.load_share:.0%} of its core"


async def busy_load(gateway: GatewayProcess) -> Load:
    """Reads by command, one in flight a connection."""
    devices = [await asyncio.to_thread(paired, gateway, f"busy {n}") for n in range(BUSY_CONNECTIONS // 4)]
    sockets = [await connect(gateway, devices[n // 4]) for n in range(BUSY_CONNECTIONS)]
    frame = b'{"type":"command","id":"%s","name":"conversation.list","data":{}}'
    ids = [device.new_id().encode() for device in devices for _ in range(4)]
    assert gateway.process is not None
    return await echo_load(gateway.process.pid, sockets, [frame % one for one in ids])


BARE_ECHO = """
import picows, ssl, sys, uvloop

class Echo(picows.WSListener):
    def on_ws_frame(self, transport, frame):
        transport.send(frame.msg_type, frame.get_payload_as_bytes())

async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[1:])
    server = await picows.ws_create_server(
        lambda request: Echo(), "127.0.0.1", 0, ssl=context, enable_auto_ping=False, read_buffer_init_size=2048
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

uvloop.run(main())
"""


async def bare_load(gateway: GatewayProcess) -> Load:
    """picows alone behind the gateway's own certificate."""
    files = [str(gateway.home / "tls" / name) for name in ("leaf.crt", "leaf.key")]
    process = subprocess.Popen([sys.executable, "-c", BARE_ECHO, *files], stdout=subprocess.PIPE, text=True)
    try:
        pin(process.pid, SERVER_CORE)
        assert process.stdout is not None
        port = int(process.stdout.readline())
        sockets: list[Socket] = []
        for _ in range(BUSY_CONNECTIONS):
            _, socket = await picows.ws_connect(Socket, f"wss://127.0.0.1:{port}/", ssl_context=gateway.trust())  # pyright: ignore[reportUnknownMemberType]  picows leaves **kwargs open
            assert isinstance(socket, Socket)
            sockets.append(socket)
        payload = b'{"type":"command","id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","name":"conversation.list"}'
        return await echo_load(process.pid, sockets, [payload] * BUSY_CONNECTIONS)
    finally:
        process.terminate()
        process.wait()


async def echo_load(pid: int, sockets: list[Socket], payloads: list[bytes]) -> Load:
    """Every connection sends its payload again as soon as it was answered."""
    count = 0

    def again(socket: Socket, payload: bytes) -> Callable[[bytes], None]:
        def on_frame(_: bytes) -> None:
            nonlocal count
            count += 1
            assert socket.transport is not None
            socket.transport.send(picows.WSMsgType.TEXT, payload)

        return on_frame

    for socket, payload in zip(sockets, payloads, strict=True):
        socket.on_frame = again(socket, payload)
        assert socket.transport is not None
        socket.transport.send(picows.WSMsgType.TEXT, payload)
    await asyncio.sleep(0.5)
    before, began, server_s, load_s = count, time.perf_counter(), cpu_s(pid), time.process_time()
    await asyncio.sleep(BUSY_S)
    messages, took = count - before, time.perf_counter() - began
    load = Load(messages / took, (cpu_s(pid) - server_s) / messages * 1e6, (time.process_time() - load_s) / took)
    for socket in sockets:
        assert socket.transport is not None
        socket.transport.disconnect()
    return load


async def turn(socket: Socket, device_id: str, text: str) -> float:
    began = time.perf_counter()
    socket.send({"type": "command", "id": device_id, "name": "message.send", "data": {"content": text}})
    await socket.until(
        lambda frame: is_event("message.created")(frame) and frame["event"]["data"]["role"] == "assistant"
    )
    took = time.perf_counter() - began
    await socket.until(is_event("RUN_FINISHED"))
    return took


async def echo_turns(gateway: GatewayProcess) -> list[Figure]:
    device = await asyncio.to_thread(paired, gateway, "turns")
    socket = await connect(gateway, device)
    times = [await turn(socket, device.new_id(), f"message {n}") for n in range(TURNS)]
    value = median(times)
    return [Figure("P8", "turn of the echo agent", "≤ 2 ms", milliseconds(value), value <= 0.002)]


async def model_turns(gateway: GatewayProcess, delay_s: float) -> list[Figure]:
    if not delay_s:
        device = await asyncio.to_thread(paired, gateway, "turns")
        socket = await connect(gateway, device)
        for n in range(3):
            await turn(socket, device.new_id(), f"warm {n}")
        times = [await turn(socket, device.new_id(), f"message {n}") for n in range(TURNS)]
        value = median(times)
        return [Figure("P8", "turn with an instant model on loopback", "≤ 15 ms", milliseconds(value), value <= 0.015)]
    devices = [await asyncio.to_thread(paired, gateway, f"phone {n}") for n in range(20)]
    sockets = [await connect(gateway, device) for device in devices]
    await turn(sockets[0], devices[0].new_id(), "warm")

    async def one(socket: Socket, command_id: str) -> str:
        socket.send({"type": "command", "id": command_id, "name": "message.send", "data": {"content": "hello"}})
        sent = await socket.until(lambda frame: frame.get("id") == command_id)
        return sent["data"]["conversation_id"]

    began = time.perf_counter()
    mine = await asyncio.gather(*(one(s, d.new_id()) for s, d in zip(sockets, devices, strict=True)))

    async def answered(socket: Socket, conversation_id: str) -> float:
        def is_ours(frame: dict) -> bool:
            data = frame.get("event", {}).get("data", {}) if frame["type"] == "event" else {}
            return data.get("role") == "assistant" and data.get("conversation_id") == conversation_id

        await socket.until(is_ours)
        return time.perf_counter() - began

    last = max(await asyncio.gather(*(answered(s, c) for s, c in zip(sockets, mine, strict=True))))
    return [Figure("P8", "20 devices × 0.5 s model, last answer", "≤ 0.7 s", f"{last:.2f} s", last <= 0.7)]


async def approvals(gateway: GatewayProcess) -> list[Figure]:
    """From the request reaching the phone to the agent's next event after the decision."""
    device = await asyncio.to_thread(paired, gateway, "approver")
    socket = await connect(gateway, device)
    times: list[float] = []
    for n in range(TURNS):
        send = {"type": "command", "id": device.new_id(), "name": "message.send", "data": {"content": f"!note {n}"}}
        socket.send(send)
        asked = (await socket.until(is_event("approval.requested")))["event"]["data"]
        began = time.perf_counter()
        signature = decision_signature(
            device.key,
            origin=device.origin,
            approval_id=asked["approval_id"],
            decision="approve",
            action=asked["action"],
            now_ms=device.clock.now_ms(),
            entropy=device.entropy,
        )
        data = {
            "approval_id": asked["approval_id"],
            "decision": "approve",
            "action_sha256": asked["action_sha256"],
            "signature": signature,
        }
        socket.send({"type": "command", "id": device.new_id(), "name": "approval.decide", "data": data})
        await socket.until(is_event("TOOL_CALL_RESULT"))
        times.append(time.perf_counter() - began)
        await socket.until(is_event("RUN_FINISHED"))
    p50, p99 = median(times), percentile(times, 0.99)
    return [
        Figure("P9", "asked → phone → decided → tool has run, p50", "≤ 3 ms", milliseconds(p50), p50 <= 0.003),
        Figure("P9", "the same, p99", "≤ 10 ms", milliseconds(p99), p99 <= 0.010),
    ]


async def revokes(gateway: GatewayProcess) -> list[Figure]:
    """From sending the DELETE on an open connection to the close frame at the phone."""
    times: list[float] = []
    reader, writer = await asyncio.open_unix_connection(gateway.home / "gateway.sock")
    for n in range(20):
        device = await asyncio.to_thread(paired, gateway, f"gone {n}")
        socket = await connect(gateway, device)
        assert device.credentials is not None
        path = f"/api/v1/devices/{device.credentials.device_id}"
        began = time.perf_counter()
        writer.write(f"DELETE {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        at, code = await asyncio.wait_for(socket.closed, 30)
        assert code == 4501
        times.append(at - began)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.split()[1][:1] == b"2", head
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
    writer.close()
    value = median(times)
    return [Figure("P10", "revoke → open connection closed", "≤ 10 ms", milliseconds(value), value <= 0.010)]


def measured(work: Callable[[GatewayProcess], Awaitable[list[Figure]]], **environment: str) -> list[Figure]:
    with running_gateway(**environment) as gateway:
        return asyncio.run(_run(work, gateway))


async def _run(work: Callable[[GatewayProcess], Awaitable[list[Figure]]], gateway: GatewayProcess) -> list[Figure]:
    return await work(gateway)


def with_model(delay_s: float) -> list[Figure]:
    """The built-in agent on a model server of our own that answers after `delay_s`."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.instant_model", str(port), str(delay_s)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        pin(server.pid, LOAD_CORE)
        assert server.stdout is not None
        server.stdout.readline()
        environment = {
            "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1",
            "OPENAI_API_KEY": "bench",
            "ENTOBOT_AGENT__MODEL": "instant",
            "ENTOBOT_AGENT__RUNNER": "llm",
        }
        return measured(lambda gateway: model_turns(gateway, delay_s), **environment)
    finally:
        server.terminate()
        server.wait()
