"""What one client's trouble costs another: readers that do not read, and a revoke on another node (P10)."""

import asyncio
import tempfile
import time
from pathlib import Path

import picows
import uvloop

from benchmarks import seed
from benchmarks.crowd import Member, Place, disperse, gather_crowd, seeded, ulid
from benchmarks.messages import NOBODY_ANSWERS
from benchmarks.rig import FAST_LIMITS, Figure, connect, median, milliseconds, paired, percentile, pin
from benchmarks.seed import Seeded
from entobot.client.local import LocalGateway
from tests.support.nodes import Pair
from tests.support.postgres import postgres_server
from tests.support.process import GatewayProcess

READERS = 50
ROUNDS = 5
COMMANDS = 2_000
BEFORE = 400
"""Events of the readers' person before the commands: more than the 256 that a connection is sent unacknowledged."""
FEED_EVERY_S = 0.02
FEED = "x" * 2_000
PATIENCE_S = 60.0
REVOKES = 20
_numbers = iter(range(10**9))


class Teller:
    """Sends a message after the other on one connection."""

    def __init__(self, member: Member, content: str) -> None:
        self.member = member
        self._content = content
        self._answered = asyncio.Event()
        member.on_frame = self._heard

    def _heard(self, member: Member, payload: bytes) -> None:
        _acknowledge(member, payload)
        if payload.startswith(b'{"type":"error"'):
            raise RuntimeError(payload.decode())
        if payload.startswith(b'{"type":"result"'):
            self._answered.set()

    async def tell(self) -> float:
        """Seconds from the command to its result."""
        self._answered.clear()
        began = time.perf_counter()
        self.member.send(
            b'{"type":"command","id":"%s","name":"message.send","data":{"content":"%s"}}'
            % (ulid(next(_numbers)), self._content.encode())
        )
        await asyncio.wait_for(self._answered.wait(), PATIENCE_S)
        return time.perf_counter() - began


def _acknowledge(member: Member, payload: bytes) -> None:
    if payload.startswith(b'{"type":"event"'):
        _, is_durable, seq = payload.rpartition(b'"seq":')  # the frame's last member
        if is_durable:
            member.send(b'{"type":"ack","seq":%s' % seq)


def _stop_reading(member: Member) -> None:
    assert isinstance(member.transport, picows.WSTransport)
    member.transport.underlying_transport.pause_reading()


async def _round(place: Place, devices: list[Seeded], *, is_stuck: bool) -> float:
    """The p99 of one person's commands while another person's 51 devices get events, and read them or do not."""
    members = await gather_crowd(place, devices)
    by_device = {member.device.device_id: member for member in members}
    feeder, talker = (by_device[devices[n].device_id] for n in (0, -1))
    for member in members:
        if member not in (feeder, talker):
            if is_stuck:
                _stop_reading(member)
            else:
                member.on_frame = _acknowledge
    feeding, talking = Teller(feeder, FEED), Teller(talker, "x")
    for _ in range(BEFORE):
        await feeding.tell()

    async def feed() -> None:
        while True:
            await feeding.tell()
            await asyncio.sleep(FEED_EVERY_S)

    task = asyncio.create_task(feed())
    times = [await talking.tell() for _ in range(COMMANDS)]
    is_held = sum(not member.is_lost for member in members) == len(members)
    task.cancel()
    disperse(members)
    if not is_held:
        raise RuntimeError("readers were let go before the round was over: nothing was measured")
    return percentile(times, 0.99)


async def _rounds(place: Place, devices: list[Seeded]) -> tuple[list[float], list[float]]:
    free: list[float] = []
    stuck: list[float] = []
    for _ in range(ROUNDS):
        free.append(await _round(place, devices, is_stuck=False))
        stuck.append(await _round(place, devices, is_stuck=True))
    return free, stuck


def _sow(gateway: GatewayProcess) -> list[Seeded]:
    """The readers' person with 51 devices, then somebody else with one."""
    return [
        *seed.with_keys(gateway, users=1, devices_each=READERS + 1),
        *seed.with_keys(gateway, users=1, devices_each=1),
    ]


def stuck_readers() -> list[Figure]:
    """Both kinds of rounds in turn, on one gateway: a ratio, whatever the machine."""
    with seeded(_sow, has_tls=False, **NOBODY_ANSWERS) as (place, devices):
        free, stuck = uvloop.run(_rounds(place, devices))
    ratio = median([with_ / without for with_, without in zip(stuck, free, strict=True)])
    shown = f"{ratio:.2f}× ({milliseconds(median(stuck))} against {milliseconds(median(free))})"
    what = f"p99 of a command beside {READERS} readers that do not read"
    return [Figure("R", what, "≤ 1.2×", shown, ratio <= 1.2)]


def revoked_elsewhere() -> list[Figure]:
    """From the DELETE on one node to the close frame at the phone on the other; both on one PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="entobot-bench-") as folder, postgres_server() as server:
        pair = Pair(Path(folder), server)
        for node in (pair.a, pair.b):
            node.environment |= FAST_LIMITS
        try:
            pair.start()
            for core, node in enumerate((pair.a, pair.b)):
                assert node.process is not None
                pin(node.process.pid, core)
            value = median(asyncio.run(_revokes(pair)))
        finally:
            pair.close()
    what = "revoke → open connection closed, other node"
    return [Figure("P10", what, "≤ 250 ms", milliseconds(value), value <= 0.250)]


async def _revokes(pair: Pair) -> list[float]:
    times: list[float] = []
    local = LocalGateway(pair.a.home / "gateway.sock")
    for number in range(REVOKES):
        device = await asyncio.to_thread(paired, pair.a, f"gone {number}")
        socket = await connect(pair.b, device)
        assert device.credentials is not None
        path = f"/api/v1/devices/{device.credentials.device_id}"
        began = time.perf_counter()
        deleting = asyncio.create_task(asyncio.to_thread(local.request, "DELETE", path))
        at, code = await asyncio.wait_for(socket.closed, PATIENCE_S)
        await deleting
        assert code == 4501
        times.append(at - began)
    return times
