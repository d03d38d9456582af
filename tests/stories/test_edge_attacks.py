"""The outside attacks the front door: half-open sockets, slow clients, nonsense by the thousand, forged addresses."""

import asyncio
import json
import random
import re
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from entobot.client.device import Device
from entobot.client.keys import DeviceKey
from entobot.core.clock import SystemClock
from entobot.core.errors import Problem
from entobot.core.secrets import SystemEntropy
from tests.support.listening import masked, upgrade_request
from tests.support.operator import Operator
from tests.support.phone import connected
from tests.support.process import GENEROUS_S, ROOMY, GatewayProcess, free_port

DEADLINE_S = 10.0
"""What is promised to slow strangers; the tests wait longer, for busy machines."""
PLAIN = {"ENTOBOT_TLS__MODE": "off"}
UNCROWDED = {
    "ENTOBOT_LIMITS__OPENING_PER_ADDRESS": "1000",
    "ENTOBOT_LIMITS__OPENING": "1000",
    "ENTOBOT_LIMITS__UNAUTHENTICATED_PER_ADDRESS": "1000",
    "ENTOBOT_LIMITS__UNAUTHENTICATED": "1000",
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Without TLS, so that the nonsense is the cost, and without rates."""
    process = GatewayProcess(tmp_path_factory.mktemp("plain") / "home", environment={**ROOMY, **PLAIN, **UNCROWDED})
    process.origin = f"http://127.0.0.1:{process.port}"
    process.environment["ENTOBOT_GATEWAY__PUBLIC_URL"] = process.origin
    process.start()
    yield process
    process.close()


def resident_mib(process: GatewayProcess) -> float:
    assert process.process is not None
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def assert_well(gateway: GatewayProcess) -> None:
    assert gateway.process is not None
    assert gateway.process.poll() is None, "it lives"
    assert "Traceback" not in gateway.log.read_text(), gateway.log.read_text()[-4000:]


# -- sockets that say nothing


class Crowd:
    """Half-open sockets from many addresses of this machine, opened again whenever the gateway lets one go."""

    def __init__(self, port: int, count: int, addresses: int, pause_s: float) -> None:
        self._pause_s = pause_s
        self._target = ("127.0.0.1", port)
        self._sockets: list[socket.socket] = []
        self._count = count
        self._addresses = addresses
        self.opened = 0

    async def keep_open(self) -> None:
        while True:
            await self._fill()
            await asyncio.sleep(self._pause_s)
            self._sockets = [one for one in self._sockets if not self._has_ended(one)]

    async def _fill(self) -> None:
        for number in range(self._count - len(self._sockets)):
            one = socket.socket()
            one.setblocking(False)
            host = number % self._addresses
            one.bind((f"127.1.{host >> 8}.{host & 255}", 0))
            with suppress(BlockingIOError):
                one.connect(self._target)
            self._sockets.append(one)
            self.opened += 1
            if number % 50 == 0:
                await asyncio.sleep(0)

    @staticmethod
    def _has_ended(one: socket.socket) -> bool:
        try:
            if one.recv(1) == b"":
                one.close()
                return True
        except BlockingIOError:
            return False
        except OSError:
            one.close()
            return True
        return False

    def close(self) -> None:
        for one in self._sockets:
            one.close()


async def served_through_the_crowd(gateway: GatewayProcess, count: int, rounds: int, pause_s: float) -> None:
    operator = Operator(gateway)
    device = await asyncio.to_thread(operator.pair, "Honest", scopes=["chat"])
    crowd = Crowd(gateway.port, count, addresses=64, pause_s=pause_s)
    async with connected(gateway, device) as phone:
        attack = asyncio.create_task(crowd.keep_open())
        try:
            for number in range(rounds):
                await phone.say(f"still served {number}")
                await phone.until_event("RUN_FINISHED")
                await asyncio.to_thread(newcomer_is_served, gateway)
        finally:
            attack.cancel()
            crowd.close()
    assert crowd.opened >= count
    assert_well(gateway)


def newcomer_is_served(gateway: GatewayProcess) -> None:
    """Somebody without a connection comes in; a browser tries again when it was not let in at once."""
    until = time.monotonic() + GENEROUS_S
    while True:
        try:
            with httpx.Client(base_url=gateway.origin, verify=gateway.trust(), timeout=DEADLINE_S) as client:
                assert client.get("/api/health").status_code == 200
                return
        except httpx.TransportError:
            assert time.monotonic() < until, "a newcomer was kept out"
            time.sleep(0.05)


async def test_a_thousand_half_open_sockets_keep_nobody_out(gateway: GatewayProcess) -> None:
    await served_through_the_crowd(gateway, 1000, rounds=5, pause_s=0.05)


@pytest.mark.chaos
async def test_ten_thousand_half_open_sockets_keep_nobody_out(gateway: GatewayProcess) -> None:
    await served_through_the_crowd(gateway, 10_000, rounds=10, pause_s=2.0)


async def test_slow_handshakes_headers_and_first_frames_are_closed_in_time(gateway: GatewayProcess) -> None:
    context = gateway.trust()

    async def seconds_until_closed(first: bytes, drip: bytes, *, secured: bool) -> float:
        options: dict[str, Any] = {"ssl": context, "server_hostname": "127.0.0.1"} if secured else {}
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, **options)
        begun = time.monotonic()
        writer.write(first)
        try:
            async with asyncio.timeout(GENEROUS_S):
                ended = asyncio.create_task(reader.read())
                while not ended.done():
                    writer.write(drip)
                    await asyncio.wait([ended], timeout=1)
                with suppress(OSError, ssl.SSLError):
                    ended.result()
        finally:
            writer.transport.abort()
        return time.monotonic() - begun

    took = await asyncio.gather(
        seconds_until_closed(b"\x16\x03\x01\x02\x00\x01\x00", b"\0", secured=False),
        seconds_until_closed(b"", b"", secured=False),
        seconds_until_closed(b"GET / HTTP/1.1\r\nHost: x\r\n", b"X-a: b\r\n", secured=True),
        seconds_until_closed(b"", b"\r\n", secured=True),
        seconds_until_closed(upgrade_request(), b"", secured=True),
    )
    assert max(took) <= DEADLINE_S + 5, "late by no more than a busy machine is"
    assert_well(gateway)


# -- nonsense


def nonsense(rng: random.Random) -> tuple[bytes, set[int]]:
    """A frame that no client may send, and the close codes that say so."""
    text = masked(1, b'{"type":"ping"}')
    unmasked = b"\x81\x05hello"
    choices: list[tuple[bytes, set[int]]] = [
        (masked(1, rng.randbytes(rng.randrange(1, 200)), rsv=rng.randrange(1, 8)), {1002}),
        (masked(rng.choice([3, 4, 5, 6, 7, 11, 12, 13, 14, 15]), rng.randbytes(20)), {1002}),
        (masked(0, b"continues nothing"), {1002}),
        (masked(9, b"x" * 126), {1002}),
        (masked(rng.choice([8, 9, 10]), b"half", is_final=False), {1002}),
        (masked(8, b"\x03"), {1002}),
        (masked(8, struct.pack("!H", rng.choice([0, 999, 1004, 1005, 1006, 1015, 5000, 65535]))), {1002}),
        (masked(8, b"\x03\xe8\xff\xfe"), {1007}),
        (masked(1, b"\xc3\x28" + rng.randbytes(10)), {1007}),
        (masked(1, b"a", is_final=False) + text, {1002}),
        (masked(2, rng.randbytes(rng.randrange(100))), {4503}),
        (masked(1, json.dumps({"type": rng.choice(["", "x", "auth", "command", 7, None])}).encode()), {4503}),
        (masked(1, b"[" * rng.randrange(1, 4000)), {4503}),
        (masked(1, b'{"type":"auth","api_key":' + b"9" * rng.randrange(1, 5000)), {4503}),
        (b"\x81\xfe" + struct.pack("!H", 9000) + b"\1\2\3\4" + b"x" * 9000, {4505, 1009}),
        (b"\x81\xff" + struct.pack("!Q", rng.choice([1 << 20, 1 << 40])) + b"\1\2\3\4", {4505, 1009}),
        (b"\x81\xff" + struct.pack("!Q", 1 << 63) + b"\1\2\3\4", {1002, 1009, 4505}),
        (unmasked, {1002}),
    ]
    return rng.choice(choices)


async def close_code_of(port: int, frames: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(upgrade_request(Sec_WebSocket_Protocol="entobot.v1", Host="127.0.0.1") + b"")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(frames)
        while True:
            first, size = await reader.readexactly(2)
            if size == 126:
                size = int.from_bytes(await reader.readexactly(2), "big")
            payload = await reader.readexactly(size)
            if first & 15 == 8:
                return int.from_bytes(payload[:2], "big")
    finally:
        writer.transport.abort()


async def nonsense_by_the(count: int, gateway: GatewayProcess, seed: int) -> None:
    """Ten pieces a connection: the first must end it with the right code, the others must change nothing."""
    rng = random.Random(f"{seed}/nonsense")
    wrong: Counter[str] = Counter()

    async def connection() -> None:
        first, allowed = nonsense(rng)
        rest = b"".join(nonsense(rng)[0] for _ in range(9))
        async with asyncio.timeout(GENEROUS_S):
            try:
                code = await close_code_of(gateway.port, first + rest)
            except (ConnectionError, asyncio.IncompleteReadError):
                code = 1006  # our own leftovers may meet a socket that is gone, and reset the answer
            if code not in allowed | {1006}:
                wrong[f"{first[:24]!r} → {code}, not {allowed}"] += 1
            wrong["lost"] += code == 1006

    warm = resident_mib(gateway)
    for batch in range(count // 10 // 50):
        await asyncio.gather(*(connection() for _ in range(50)))
        if batch == 10:
            warm = resident_mib(gateway)
    assert wrong.pop("lost", 0) <= count // 10 // 20, "nearly every answer arrives"
    assert not wrong, (seed, wrong)
    assert resident_mib(gateway) - warm < 24
    assert_well(gateway)


async def test_twenty_thousand_malformed_frames(plain: GatewayProcess, request: pytest.FixtureRequest) -> None:
    await nonsense_by_the(20_000, plain, request.config.option.chaos_seed)


@pytest.mark.chaos
async def test_a_million_malformed_frames(plain: GatewayProcess, request: pytest.FixtureRequest) -> None:
    await nonsense_by_the(1_000_000, plain, request.config.option.chaos_seed)


HOST = b"Host: 127.0.0.1\r\n"
BAD_REQUESTS = [
    b"\r\n" * 20_000,
    b"\0" * 100,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /api/health\r\n\r\n",
    b"GET /api/health HTTP/9.9\r\n" + HOST + b"\r\n",
    b"G\xc3\x8bT / HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /\x01 HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"X" * 100_000 + b": y\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 10_000 + b"\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"no colon\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"X : y\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n folded\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b": empty\r\n\r\n",
    b"POST /api/v1/auth/pair HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
    b"POST /api/v1/auth/pair HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST /api/v1/auth/pair HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999\r\n\r\n",
    b"POST /api/v1/auth/pair HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /api/v1/auth/pair HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /api/v1/auth/pair HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"POST /api/v1/auth/pair HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: x, chunked, y\r\n\r\n0\r\n\r\n",
    b"GET /ws HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,
]


async def answer_to(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with suppress(OSError):
            writer.write(request)
            writer.write_eof()
            async with asyncio.timeout(GENEROUS_S):
                return await reader.read()
        return b""
    finally:
        writer.transport.abort()


async def test_malformed_requests_are_refused_and_nothing_breaks(plain: GatewayProcess) -> None:
    for request in BAD_REQUESTS:
        answer = await answer_to(plain.port, request)
        status = int(answer.split(b" ", 2)[1]) if answer else 0
        assert status in {0, 400, 404, 405, 413, 426, 431}, (request[:80], answer[:200])
        assert len(re.findall(rb"HTTP/1\.1 [0-9]", answer)) <= 1, (
            request[:80],
            answer,
            "one request, one answer: nothing was smuggled behind it",
        )
    assert b" 200 " in await answer_to(plain.port, b"GET /api/health HTTP/1.1\r\n" + HOST + b"\r\n")
    assert_well(plain)


async def test_random_bytes_and_mangled_requests_never_break_it(
    plain: GatewayProcess, request: pytest.FixtureRequest
) -> None:
    rng = random.Random(f"{request.config.option.chaos_seed}/mangled")
    good = (
        b"POST /api/v1/auth/pair HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )
    for _ in range(500):
        mangled = bytearray(good)
        for _ in range(rng.randrange(1, 8)):
            mangled[rng.randrange(len(mangled))] = rng.randrange(256)
        answer = await answer_to(plain.port, bytes(mangled))
        status = int(answer.split(b" ", 2)[1]) if answer else 0
        assert status == 0 or 200 <= status < 500, (bytes(mangled), answer[:200])
    assert_well(plain)


# -- forged addresses


PROXY = "127.0.0.2"


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Believes 127.0.0.2, and has a second port."""
    settings = {
        "ENTOBOT_GATEWAY__TRUSTED_PROXIES": PROXY,
        "ENTOBOT_GATEWAY__WS_PORT": str(free_port()),
        "ENTOBOT_LIMITS__REQUESTS_PER_SECOND": "5",  # less than the slowest machine asks
    }
    process = GatewayProcess(tmp_path_factory.mktemp("proxied") / "home", environment=settings).start()
    yield process
    process.close()


def client_from(gateway: GatewayProcess, address: str) -> httpx.Client:
    transport = httpx.HTTPTransport(verify=gateway.trust(), local_address=address)
    return httpx.Client(base_url=gateway.origin, transport=transport, timeout=GENEROUS_S)


def fail_to_pair(gateway: GatewayProcess, http: httpx.Client) -> None:
    stranger = Device(DeviceKey.generate(), gateway.origin, http, SystemClock(), SystemEntropy())
    with pytest.raises(Problem):
        stranger.claim(
            secret="w" * 43,
            invite_id="inv_01ARZ3NDEKTSV4RRFFQ69G5FAV",
            device_name="x",
            platform="web",
            app_version="1",
        )


def test_only_a_trusted_proxy_says_who_calls_and_the_audit_log_has_that_address(proxied: GatewayProcess) -> None:
    for address in ("127.0.0.1", PROXY):
        with client_from(proxied, address) as http:
            http.headers.update({"X-Forwarded-For": "198.51.100.1, 203.0.113.9", "Forwarded": "for=198.51.100.2"})
            fail_to_pair(proxied, http)
    rows = Operator(proxied).local.pages("/api/v1/audit", event="invite.claim_refused")
    assert sorted(row["personal"]["address"] for row in rows) == ["127.0.0.1", "203.0.113.9"]


def test_a_trusted_proxys_callers_have_limits_of_their_own_and_nobody_elses(proxied: GatewayProcess) -> None:
    def statuses(source: str) -> Counter[int]:
        with client_from(proxied, source) as http:
            forged = [{"X-Forwarded-For": f"203.0.113.{n % 250}"} for n in range(600)]
            return Counter(http.get("/api/health", headers=headers).status_code for headers in forged)

    assert statuses(PROXY) == {200: 600}
    assert statuses("127.0.0.3")[429] > 20, "whatever it claims, it is one address"


async def test_the_second_port_is_the_websocket_of_the_same_gateway(proxied: GatewayProcess) -> None:
    main, second = proxied.port, int(proxied.environment["ENTOBOT_GATEWAY__WS_PORT"])
    device = await asyncio.to_thread(Operator(proxied).pair, "Phone", scopes=["chat"])
    proxied.port = second  # the phone connects there; its proof names the origin
    try:
        async with connected(proxied, device) as phone:
            await phone.say("over the second port")
            await phone.until_event("RUN_FINISHED")
    finally:
        proxied.port = main

    def health() -> int:
        with httpx.Client(verify=proxied.trust(), timeout=GENEROUS_S) as http:
            return http.get(f"https://127.0.0.1:{second}/api/health").status_code

    assert await asyncio.to_thread(health) == 404


def test_an_allow_list_shuts_others_out_before_tls_and_never_the_terminal(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "home", environment={"ENTOBOT_GATEWAY__ALLOWED_NETWORKS": "127.0.0.7"})
    try:
        gateway.start()
        with client_from(gateway, "127.0.0.7") as http:
            assert http.get("/api/health").status_code == 200
        with client_from(gateway, "127.0.0.8") as http, pytest.raises(httpx.TransportError):
            http.get("/api/health")
        assert "address_not_allowed" in gateway.log.read_text()
        assert "leaves out 127.0.0.1" in gateway.banner
        findings = json.loads(gateway.cli("doctor", "--json").stdout)
        told = next(finding for finding in findings if finding["name"] == "networks")
        assert (told["level"], "leaves out 127.0.0.1" in told["detail"]) == ("warning", True)
    finally:
        gateway.close()
