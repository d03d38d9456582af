"""Full disks, stalled models, clients that never read, half-open sockets: each has a stated outcome."""

import asyncio
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest

from entobot.core.errors import Code
from tests.support.operator import Operator
from tests.support.phone import Phone, authenticate, connected, raw_socket
from tests.support.process import GENEROUS_S, ROOMY, GatewayProcess
from tests.support.served import Served

STOPS_WITHIN_S = 10.0
"""What is promised; the tests wait longer, for busy machines."""


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path / "home", environment=ROOMY).start()
    yield process
    process.close()


async def test_sigterm_ends_the_gateway_although_the_model_hangs_and_fifty_phones_are_connected(tmp_path: Path) -> None:
    pytest.importorskip("pydantic_ai", reason="the extra 'agent' is not installed")
    asked = asyncio.Event()

    async def stall(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        asked.set()
        await reader.read()

    model = Served(stall)
    settings = {
        "ENTOBOT_AGENT__RUNNER": "llm",
        "ENTOBOT_AGENT__MODEL": "stalled",
        "ENTOBOT_AGENT__BASE_URL": f"http://127.0.0.1:{model.port}/v1",
        "ENTOBOT_LIMITS__UNAUTHENTICATED_PER_ADDRESS": "60",
    }
    gateway = GatewayProcess(tmp_path / "home", environment=settings)
    try:
        await asyncio.to_thread(gateway.start)
        operator = Operator(gateway)
        devices = [await asyncio.to_thread(operator.pair, f"Phone {n}", scopes=["chat"]) for n in range(13)]
        async with AsyncExitStack() as stack:
            phones = [await stack.enter_async_context(connected(gateway, devices[n % 13])) for n in range(50)]
            await phones[0].say("are you there?")
            await asyncio.wait_for(asked.wait(), GENEROUS_S)
            closing = [asyncio.create_task(phone.closed()) for phone in phones]
            loop = asyncio.get_running_loop()
            begun_s = loop.time()
            assert await asyncio.to_thread(gateway.stop) == 0
            took_s = loop.time() - begun_s
            assert set(await asyncio.gather(*closing)) <= {4000, 1012}
            assert took_s < 2 * STOPS_WITHIN_S
    finally:
        gateway.close()
        await model.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
async def test_a_hundred_half_open_sockets_do_not_keep_a_phone_out(gateway: GatewayProcess) -> None:
    device = await asyncio.to_thread(Operator(gateway).pair, "Phone", scopes=["chat"])
    with ExitStack() as stack:
        for n in range(100):
            half_open = socket.create_connection(
                ("127.0.0.1", gateway.port), source_address=(f"127.0.1.{n % 4 + 1}", 0)
            )
            stack.enter_context(half_open)
            half_open.sendall(b"\x16\x03\x01\x02\x00")  # the beginning of a TLS hello
        async with connected(gateway, device) as phone:
            await phone.say("still here")
            await phone.until_event("RUN_FINISHED")


async def test_clients_that_read_or_acknowledge_nothing_are_cut_while_another_phone_goes_on(tmp_path: Path) -> None:
    settings = {
        **ROOMY,
        "ENTOBOT_GATEWAY__HEARTBEAT": "4",  # slow consumers are looked for with each beat
    }
    gateway = GatewayProcess(tmp_path / "home", environment=settings)
    try:
        await asyncio.to_thread(gateway.start)
        operator = Operator(gateway)
        silent, deaf, other = [operator.pair(name, scopes=["chat"]) for name in ("Silent", "Deaf", "Other")]
        async with raw_socket(gateway) as one, raw_socket(gateway) as two, connected(gateway, other) as phone:
            for socket_, device in ((one, silent), (two, deaf)):
                await authenticate(socket_, device)
                await Phone(device, socket_).until(lambda frame: frame["type"] == "ready")
            two.transport.pause_reading()
            conversation = (await phone.command("conversation.create", {}))["data"]["conversation_id"]
            for _ in range(1400):  # 256 may be under way unacknowledged, 1,024 more may wait
                await phone.say("x" * 2000, conversation_id=conversation)
            assert await asyncio.wait_for(_end(one), GENEROUS_S) == 4002
            two.transport.resume_reading()
            assert await asyncio.wait_for(_end(two), GENEROUS_S) in (4001, 4002, 1006)
            assert (await phone.command("conversation.list", {}))["type"] == "result"
    finally:
        gateway.close()


async def _end(connection: object) -> int:
    import websockets
    from websockets.asyncio.client import ClientConnection

    assert isinstance(connection, ClientConnection)
    try:
        while True:
            await connection.recv()
    except websockets.ConnectionClosed as end:
        return end.rcvd.code if end.rcvd else 1006


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits the files of a running process")
async def test_on_a_full_disk_nothing_is_acknowledged_that_is_not_kept_and_work_goes_on_when_there_is_room(
    roomy: GatewayProcess,
) -> None:
    device = await asyncio.to_thread(Operator(roomy).pair, "Phone", scopes=["chat"])
    assert roomy.process is not None
    log = roomy.home / "entobot.db-wal"
    unlimited = resource.RLIM_INFINITY
    async with connected(roomy, device) as phone:
        conversation = (await phone.command("conversation.create", {}))["data"]["conversation_id"]
        lines = roomy.log.read_text().count("\n")
        resource.prlimit(roomy.process.pid, resource.RLIMIT_FSIZE, (log.stat().st_size + 200_000, unlimited))
        kept: list[str] = []
        refused: list[str] = []
        for n in range(400):
            data = {"conversation_id": conversation, "content": f"message {n} " + "x" * 1000}
            answer = await phone.command("message.send", data)
            if answer["type"] == "result":
                kept.append(answer["data"]["message_id"])
            else:
                refused.append(answer["code"])
            if len(refused) == 100:
                break
        assert kept, "there was room at first"
        assert len(refused) == 100, "the disk became full"
        assert set(refused) == {Code.INTERNAL}
        assert roomy.http().get("/api/health").status_code == 200
        assert roomy.log.read_text().count("\n") - lines < 20, roomy.log.read_text()[-3000:]
        resource.prlimit(roomy.process.pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
        await phone.say("there is room again", conversation_id=conversation)
    roomy.kill()
    await asyncio.to_thread(roomy.start)
    there = {row[0] for row in Operator(roomy).query("SELECT message_id FROM messages WHERE role = 'user'")}
    assert set(kept) <= there
    assert len(there) == len(kept) + 1, "what was refused is not there"
    verified = await asyncio.to_thread(roomy.ask, "audit", "verify")
    assert verified["ok"]


def test_a_stopped_gateway_says_so_and_a_hung_one_is_not_left_behind(gateway: GatewayProcess) -> None:
    assert gateway.process is not None
    pid = gateway.process.pid
    gateway.process.send_signal(signal.SIGINT)
    assert gateway.process.wait(GENEROUS_S) == 0
    assert not (gateway.home / "gateway.sock").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
