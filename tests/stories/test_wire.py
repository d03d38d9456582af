"""Garbage on the wire: HTTP that two parsers would read differently, frames by the ten thousand. Bounded, on loopback."""

import asyncio
import json
import os
import random
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.frames import Opcode

from entobot.client.device import Device
from entobot.core.errors import Code
from tests.support.operator import TRACES, Operator
from tests.support.phone import connected, raw_socket
from tests.support.process import GENEROUS_S, ROOMY, GatewayProcess

SEED = 20261121
UNTOUCHED = TRACES | {"devices", "stream_cursors"}
MAX_GROWTH_MB = 64
MAX_LOG_LINES = 40
VALID_ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("wire") / "home", environment=ROOMY).start()
    yield process
    process.close()


@pytest.fixture(scope="module")
def operator(roomy: GatewayProcess) -> Operator:
    return Operator(roomy)


@pytest.fixture(scope="module")
def device(operator: Operator) -> Device:
    return operator.pair("Fuzzer", scopes=["approve", "chat"])


@pytest.fixture(autouse=True)
def nothing_happened(roomy: GatewayProcess, operator: Operator, device: Device) -> Iterator[None]:
    """Whatever a test sends: no row changes, memory and log stay bounded, the gateway answers."""
    assert device.credentials is not None
    if device.credentials.expires_at_ms < time.time() * 1000 + 150_000:  # half its life
        device.refresh()
    state, memory, lines = operator.state(without=UNTOUCHED), resident_mb(roomy), log_lines(roomy)
    yield
    assert roomy.http().get("/api/health").status_code == 200
    assert operator.state(without=UNTOUCHED) == state
    assert resident_mb(roomy) - memory < MAX_GROWTH_MB
    assert log_lines(roomy) - lines < MAX_LOG_LINES, roomy.log.read_text()[-4000:]
    assert "Traceback" not in roomy.log.read_text()


def resident_mb(gateway: GatewayProcess) -> int:
    if sys.platform != "linux":
        return 0
    assert gateway.process is not None
    pages = Path(f"/proc/{gateway.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") // 2**20


def log_lines(gateway: GatewayProcess) -> int:
    return gateway.log.read_text().count("\n")


# -- HTTP


def dial(gateway: GatewayProcess, way: str) -> socket.socket:
    if way == "unix":
        plain = socket.socket(socket.AF_UNIX)
        plain.connect(str(gateway.home / "gateway.sock"))
        plain.settimeout(GENEROUS_S)
        return plain
    plain = socket.create_connection(("127.0.0.1", gateway.port), GENEROUS_S)
    return gateway.trust().wrap_socket(plain, server_hostname="127.0.0.1")


def exchange(gateway: GatewayProcess, way: str, sent: bytes) -> list[bytes]:
    """The status lines of all answers to `sent`, until the gateway hangs up."""
    received = b""
    with dial(gateway, way) as connection:
        try:
            connection.sendall(sent)
            while chunk := connection.recv(65536):
                received += chunk
        except (BrokenPipeError, ConnectionResetError):
            pass
    answers = re.split(rb"(?=HTTP/1\.1 \d{3} )", received)[1:]
    for answer in answers:
        is_success = answer.startswith(b"HTTP/1.1 2")
        assert is_success or b"content-type: application/problem+json" in answer, answer
    return [answer.partition(b"\r\n")[0] for answer in answers]


POST = b"POST /api/v1/auth/pair HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
GET = b"GET /api/health HTTP/1.1\r\nConnection: close\r\n"
HIDDEN = b"GET /api/v1/devices HTTP/1.1\r\nHost: x\r\n\r\n"
SHAPES: dict[str, bytes] = {
    "length and chunked": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunked and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + HIDDEN,
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n" + HIDDEN,
    "a list of lengths": POST + b"Content-Length: 0, 0\r\n\r\n" + HIDDEN,
    "a signed length": POST + b"Content-Length: +0\r\n\r\n" + HIDDEN,
    "a negative length": POST + b"Content-Length: -1\r\n\r\n" + HIDDEN,
    "an endless length": POST + b"Content-Length: 99999999999999999999999\r\n\r\n" + HIDDEN,
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunked not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + HIDDEN,
    "a space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "a vertical tab": POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "a negative chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n" + HIDDEN,
    "an endless chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx\r\n",
    "bare line feeds": b"GET /api/health HTTP/1.1\nHost: x\n\n" + HIDDEN,
    "a bare carriage return": GET + b"Host: x\rFoo: y\r\n\r\n" + HIDDEN,
    "a folded header": GET + b"Host: x\r\nFoo: a\r\n b\r\n\r\n" + HIDDEN,
    "no host": GET + b"\r\n" + HIDDEN,
    "two hosts": GET + b"Host: a\r\nHost: b\r\n\r\n" + HIDDEN,
    "NUL in a header": GET + b"Host: x\r\nFoo: a\0b\r\n\r\n",
    "NUL in the path": b"GET /api/he\0alth HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes in the path": b"GET /\xe9\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "an authority": b"GET evil.example:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tunnel": b"CONNECT evil.example:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "an unknown method": b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9.9": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "a huge header": GET + b"Host: x\r\nA: " + b"a" * 100_000 + b"\r\n\r\n",
    "many headers": GET + b"Host: x\r\n" + b"".join(b"a%d: b\r\n" % n for n in range(5000)) + b"\r\n",
    "a long path": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "many trailers": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
    "noise": random.Random(SEED).randbytes(4000),
}


@pytest.mark.parametrize("way", ["tls", "unix"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_request_that_two_parsers_would_read_differently_is_refused_and_ends_the_connection(
    roomy: GatewayProcess, shape: str, way: str
) -> None:
    answers = exchange(roomy, way, SHAPES[shape])
    assert len(answers) <= 1, "what hides behind it is not answered"
    if shape != "many trailers":  # the answer may have begun
        assert answers
    for answer in answers:
        assert answer.split()[1] in (b"400", b"413", b"422", b"431"), answer


def test_trailers_are_not_taken_for_headers(roomy: GatewayProcess) -> None:
    body = b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nContent-Type: application/json\r\n\r\n"
    with dial(roomy, "tls") as connection:
        connection.sendall(POST + body)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    assert b"Send the body as JSON" in answer, "the head said nothing of JSON"


@pytest.mark.parametrize("way", ["tls", "unix"])
def test_a_flood_of_pipelined_requests_ends_the_connection_instead_of_filling_memory(
    roomy: GatewayProcess, way: str
) -> None:
    flood = b"GET /api/nothing HTTP/1.1\r\nHost: x\r\n\r\n" * 1000
    assert len(exchange(roomy, way, flood)) < 1000, "cut before all of it was kept and answered"


def test_pipelined_requests_are_answered_in_order(roomy: GatewayProcess) -> None:
    requests = [b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /api/nothing HTTP/1.1\r\nHost: x\r\n\r\n"] * 20
    last = b"GET /api/nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answers = exchange(roomy, "tls", b"".join(requests) + last)
    assert [answer.split()[1] for answer in answers] == [b"200", b"404"] * 20 + [b"404"]


# -- WebSocket


def command(**changed: Any) -> dict[str, Any]:
    return {"type": "command", "id": VALID_ID, "name": "conversation.list", "data": {}} | changed


NOT_FRAMES: list[bytes] = [
    b"", b"{", b"[]", b"null", b"0", b'"auth"', b"{}", b"\xef\xbb\xbf{}", b"NaN", b"nul",
    b"[" * 4000, b'{"a":' * 1500, b'{"type":' + b"[" * 3000 + b"]" * 3000 + b"}",
    b'{"type":"auth"}', b'{"type":"auth","token":1,"proof":2}', b'{"type":"auth","token":"x"}',
    b'{"type":"auth","token":"x","proof":"y","api_key":"z"}', b'{"type":"auth","token":"x","proof":"y","extra":1}',
    b'{"type":"auth","token":"x","proof":"y","resume":{"stream":"s"}}',
    b'{"type":"auth","token":"x","proof":"y","resume":{"stream":"s","after":-1}}',
    b'{"type":"auth","token":"x","proof":"y","resume":{"stream":"s","after":1e400}}',
    b'{"type":"auth","token":"x","proof":"y","resume":{"stream":"s","after":99999999999999999999999999}}',
    b'{"type":"hello"}', b'{"type":"ready"}', b'{"type":"result","id":"x","data":{}}', b'{"type":1}', b'{"type":null}',
    b'{"TYPE":"ping"}', b'{"type":"unknown"}', b'{"type":"\\u0000"}', b'{"type":"\\ud800"}', b'{"type":"ping","x":1}',
]  # fmt: skip
NOT_LIVE_FRAMES: list[bytes] = [
    *NOT_FRAMES,
    b'{"type":"ack"}', b'{"type":"ack","seq":-1}', b'{"type":"ack","seq":1.5}', b'{"type":"ack","seq":"1"}',
    b'{"type":"ack","seq":99999999999999999999}', b'{"type":"ack","seq":9007199254740992}', b'{"type":"ack","seq":null}',
    b'{"type":"command"}', json.dumps(command(id="short")).encode(), json.dumps(command(id="!" * 26)).encode(),
    json.dumps(command(name="n" * 65)).encode(), json.dumps(command(name=7)).encode(),
    json.dumps(command(extra=1)).encode(), json.dumps(command(id="8" * 26)).encode(),
    b'{"type":"command","id":"' + VALID_ID.encode() + b'","name":"conversation.list","data":',
]  # fmt: skip
UNREADABLE_TEXT = [b"\xff\xfe", b"\xed\xa0\x80", b'{"type":"ping"}\xc0', b"\xf8\x88\x80\x80\x80"]


async def end_of(socket: ClientConnection) -> int:
    try:
        while True:
            await asyncio.wait_for(socket.recv(), GENEROUS_S)
    except websockets.ConnectionClosed as end:
        return end.rcvd.code if end.rcvd else 1006


async def send_text(socket: ClientConnection, payload: bytes) -> None:
    async with socket.send_context():
        socket.protocol.send_text(payload)


async def test_before_authentication_anything_but_auth_ends_the_connection(roomy: GatewayProcess) -> None:
    async def end_after(payload: bytes, *, is_binary: bool = False) -> int:
        async with raw_socket(roomy) as socket:
            await socket.recv()
            await (socket.send(payload) if is_binary else send_text(socket, payload))
            return await end_of(socket)

    commands = [json.dumps(frame).encode() for frame in (command(), {"type": "ack", "seq": 0}, {"type": "ping"})]
    ends = {payload[:60]: await end_after(payload) for payload in [*NOT_FRAMES, *commands]}
    assert {payload: code for payload, code in ends.items() if code != 4503} == {}
    for payload in UNREADABLE_TEXT:
        assert await end_after(payload) == 1007
    assert await end_after(b"\0" * 10, is_binary=True) == 4503
    assert await end_after(b'{"type":"auth","token":"' + b"x" * 9000 + b'","proof":"y"}') == 4505
    assert await end_after(b'{"type":"auth","token":"x","proof":"y"}') == 4500
    assert await end_after(b'{"type":"auth","token":"\\u0000","proof":"\\ud83d\\ude00"}') == 4500
    assert await end_after(b'{"type":"auth","token":"x","token":"x","proof":"y"}') in (4500, 4503)


async def test_an_authenticated_device_that_sends_no_frame_of_the_protocol_is_cut(
    roomy: GatewayProcess, device: Device
) -> None:
    async def end_after(payload: bytes) -> int:
        async with connected(roomy, device) as phone:
            await phone.until(lambda frame: frame["type"] == "snapshot")
            await send_text(phone._socket, payload)
            return await phone.closed()

    ends = {payload[:60]: await end_after(payload) for payload in NOT_LIVE_FRAMES}
    assert {payload: code for payload, code in ends.items() if code != 4503} == {}
    assert await end_after(b'{"type":"auth","token":"x","proof":"y"}') == 4503, "auth was not asked for"
    too_large = json.dumps(command(name="message.send", data={"content": "x" * 300_000})).encode()
    assert await end_after(too_large) == 4505


async def test_ten_thousand_senseless_commands_are_refused_one_by_one(roomy: GatewayProcess, device: Device) -> None:
    dice = random.Random(SEED)
    other_id = "cnv_" + VALID_ID
    values: list[Any] = [
        None, True, -1, 0, 1.5, 2**63, 10**30, "", "x", "\0", "é" * 300, "\u202e", [], [[[]]], {}, {"a": 1}, other_id, "apr_" + VALID_ID,
    ]  # fmt: skip
    names = [
        "conversation.history",
        "conversation.rename",
        "run.cancel",
        "approval.decide",
        "no.such",
        "",
        "message.send\0",
    ]
    keys = [
        "conversation_id",
        "title",
        "before",
        "limit",
        "run_id",
        "approval_id",
        "decision",
        "signature",
        "user_id",
        "x",
    ]
    sent = 10_000
    async with connected(roomy, device) as phone:
        answers: dict[str, int] = {}

        async def read() -> None:
            for _ in range(sent):
                frame = await phone.until(lambda frame: frame["type"] in ("result", "error"))
                code = frame.get("code", "result")
                answers[code] = answers.get(code, 0) + 1
                phone.frames.clear()
                under_way.release()

        under_way = asyncio.Semaphore(100)
        reading = asyncio.create_task(read())
        for _ in range(sent):
            await under_way.acquire()
            data = {dice.choice(keys): dice.choice(values) for _ in range(dice.randrange(4))}
            frame = {"type": "command", "id": device.new_id(), "name": dice.choice(names), "data": data}
            if dice.random() < 0.1:
                frame["data"] = dice.choice(values)
            await phone.send(frame)
        await asyncio.wait_for(reading, GENEROUS_S)
        assert set(answers) <= {Code.INVALID, Code.NOT_FOUND}, answers
        assert (await phone.command("conversation.list", {}))["type"] == "result"


async def test_floods_of_acknowledgements_and_pings_leave_the_connection_alive(
    roomy: GatewayProcess, device: Device
) -> None:
    async with connected(roomy, device) as phone:
        ready = phone.frames[0]
        await phone.until(lambda frame: frame["type"] == "snapshot")
        for _ in range(5000):
            await phone.send({"type": "ack", "seq": ready["seq"]})
        for _ in range(5000):
            async with phone._socket.send_context():
                phone._socket.protocol.send_ping(b"x" * 125)
        assert (await phone.command("conversation.list", {}))["type"] == "result"


async def test_a_message_in_a_thousand_fragments_is_one_message_and_an_unfinished_one_is_bounded(
    roomy: GatewayProcess, device: Device
) -> None:
    async with connected(roomy, device) as phone:
        text = json.dumps(command(id=device.new_id())).encode()
        async with phone._socket.send_context():
            for n in range(len(text)):
                is_last = n == len(text) - 1
                opcode = Opcode.CONT if n else Opcode.TEXT
                phone._socket.protocol.send_frame(_frame(opcode, text[n : n + 1], is_last))
        assert (await phone.until(lambda frame: frame["type"] in ("result", "error")))["type"] == "result"
        async with phone._socket.send_context():
            phone._socket.protocol.send_frame(_frame(Opcode.TEXT, b"{", is_last=False))
            for _ in range(300):
                phone._socket.protocol.send_frame(_frame(Opcode.CONT, b" " * 1024, is_last=False))
        assert await phone.closed() == 4505


def _frame(opcode: Opcode, data: bytes, is_last: bool) -> Any:
    from websockets.frames import Frame

    return Frame(opcode, data, fin=is_last)


async def test_a_flood_with_one_command_id_has_one_effect_and_other_data_is_refused(
    gateway: GatewayProcess,
) -> None:
    flooder = Operator(gateway).pair(scopes=["chat"])
    async with connected(gateway, flooder) as phone:
        same: dict[str, Any] = {
            "type": "command",
            "id": flooder.new_id(),
            "name": "conversation.create",
            "data": {"title": "once"},
        }
        for _ in range(100):
            await phone.send(same)
        first = await phone.until(lambda frame: frame.get("id") == same["id"])
        again = await phone.command("conversation.create", {"title": "once"}, same["id"])
        assert again["data"] == first["data"]
        await phone.send({**same, "data": {"title": "twice"}})
        changed = await phone.until(lambda frame: frame.get("id") == same["id"] and frame["type"] == "error")
        assert changed["code"] == Code.IDEMPOTENCY_MISMATCH
        rows = (await phone.command("conversation.list", {}))["data"]["rows"]
        assert [row["title"] for row in rows] == ["once"]


async def test_a_device_that_goes_on_over_its_limit_is_told_and_then_cut(tmp_path: Path) -> None:
    slow = {"ENTOBOT_LIMITS__FRAMES_PER_SECOND": "0.1", "ENTOBOT_LIMITS__FRAMES_BURST": "400"}
    gateway = GatewayProcess(tmp_path / "home", environment=slow).start()
    try:
        flooder = Operator(gateway).pair(scopes=["chat"])
        async with connected(gateway, flooder) as phone:
            for _ in range(3000):
                try:
                    await phone.send({"type": "ping"})
                except websockets.ConnectionClosed:
                    break
            assert await phone.closed() == 4004
            assert 50 <= sum(frame.get("code") == Code.RATE_LIMITED for frame in phone.frames) <= 60
    finally:
        gateway.close()
