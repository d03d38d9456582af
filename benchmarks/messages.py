"""P6 durable `message.send`: validated, limited, committed and fsynced before its result; nobody answers here."""

import asyncio
import time
from dataclasses import dataclass

import uvloop

from benchmarks import seed
from benchmarks.crowd import Member, Place, disperse, gather_crowd, seeded, ulid
from benchmarks.echo_ws import cpu_s
from benchmarks.rig import Figure, milliseconds, percentile
from benchmarks.seed import Seeded
from tests.support.process import GatewayProcess

NOBODY_ANSWERS = {"ENTOBOT_AGENT__RUNNER": "none"}
WARM_S, BUSY_S, PACED_S = 1.0, 4.0, 6.0
STRAGGLE_LOOKS, LOOK_S = 300, 0.1
ACKNOWLEDGE_EVERY = 64
CONTENT = "x" * 200
TICK_S = 0.001
MOST_OF_SEQ = 27


@dataclass(slots=True)
class Tally:
    sent: int = 0
    committed: int = 0
    refused: int = 0


class Talker:
    """One connection that sends into a conversation of its own and acknowledges its events."""

    __slots__ = ("conversation_id", "member", "sent_at", "tally", "times", "unacknowledged")

    def __init__(self, member: Member, tally: Tally, times: list[float]) -> None:
        self.member = member
        self.tally = tally
        self.times = times
        self.conversation_id = b""
        self.sent_at = 0.0
        self.unacknowledged = 0

    def send(self) -> None:
        self.tally.sent += 1
        self.sent_at = time.perf_counter()
        self.member.send(
            b'{"type":"command","id":"%s","name":"message.send","data":{%s"content":"%s"}}'
            % (ulid(self.tally.sent), self.conversation_id, CONTENT.encode())
        )

    def _acknowledge(self, payload: bytes) -> None:
        _, is_durable, seq = payload[-MOST_OF_SEQ:].rpartition(b'"seq":')  # it is the frame's last member
        self.unacknowledged += bool(is_durable)
        if self.unacknowledged >= ACKNOWLEDGE_EVERY:
            self.unacknowledged = 0
            self.member.send(b'{"type":"ack","seq":%s' % seq)

    def is_result(self, payload: bytes) -> bool:
        """Account for a frame; True when it is the result of what was sent last."""
        if payload.startswith(b'{"type":"event"'):
            self._acknowledge(payload)
            return False
        if payload.startswith(b'{"type":"error"'):
            self.tally.refused += 1
            return True
        self.tally.committed += 1
        self.times.append(time.perf_counter() - self.sent_at)
        if not self.conversation_id:
            start = payload.index(b'"conversation_id"')
            self.conversation_id = payload[start : payload.index(b",", start) + 1]
        return True


async def busy(place: Place, devices: list[Seeded]) -> tuple[float, float, Tally]:
    """Every connection has one message on its way: committed messages a second, CPU µs of each."""
    members = await gather_crowd(place, devices)
    tally, times = Tally(), list[float]()
    for member in members:
        talker = Talker(member, tally, times)

        def on_frame(_: Member, payload: bytes, talker: Talker = talker) -> None:
            if talker.is_result(payload):
                talker.send()

        member.on_frame = on_frame
        talker.send()
    await asyncio.sleep(WARM_S)
    before, cpu_before, began = tally.committed, cpu_s(place.pid), time.perf_counter()
    await asyncio.sleep(BUSY_S)
    count, took = tally.committed - before, time.perf_counter() - began
    each_us = (cpu_s(place.pid) - cpu_before) / count * 1e6
    disperse(members)
    return count / took, each_us, tally


async def paced(place: Place, devices: list[Seeded], per_s: int) -> tuple[list[float], float, float]:
    """`per_s` messages a second spread over all connections: the times to their results, the gateway's share of a core,
    and how many were committed a second meanwhile.
    """
    members = await gather_crowd(place, devices)
    tally, times = Tally(), list[float]()
    talkers: list[Talker] = []
    for member in members:
        talker = Talker(member, tally, times)
        member.on_frame = lambda _, payload, talker=talker: talker.is_result(payload)
        talkers.append(talker)
    began, cpu_before, number = time.perf_counter(), cpu_s(place.pid), 0
    while (elapsed := time.perf_counter() - began) < PACED_S:
        while number < elapsed * per_s:
            talkers[number % len(talkers)].send()
            number += 1
        await asyncio.sleep(TICK_S)
    share = (cpu_s(place.pid) - cpu_before) / PACED_S
    in_time = tally.committed / PACED_S
    for _ in range(STRAGGLE_LOOKS):
        if tally.committed + tally.refused == tally.sent:
            break
        await asyncio.sleep(LOOK_S)
    missing = tally.sent - tally.committed
    disperse(members)
    if missing:
        raise RuntimeError(f"{missing} of {tally.sent} messages were not committed")
    return times, share, in_time


@dataclass(frozen=True, slots=True)
class OneEach:
    """So many people with a device each: nobody gets anybody else's events."""

    count: int

    def __call__(self, gateway: GatewayProcess) -> list[Seeded]:
        return seed.with_keys(gateway, users=self.count, devices_each=1)


def rate(connections: int) -> tuple[float, float]:
    with seeded(OneEach(connections), has_tls=False, **NOBODY_ANSWERS) as (place, devices):
        per_s, each_us, tally = uvloop.run(busy(place, devices))
    if tally.refused:
        raise RuntimeError(f"{tally.refused} messages were refused")
    return per_s, each_us


def figures() -> tuple[list[Figure], list[tuple[int, float]]]:
    found: list[Figure] = []
    points: list[tuple[int, float]] = []
    for connections in (64, 500):
        per_s, each_us = rate(connections)
        points.append((connections, per_s))
        what = f"durable messages, {connections} busy connections"
        found.append(Figure("P6", what, "≥ 30000/s", f"{per_s:.0f}/s, {each_us:.0f} µs of CPU each", per_s >= 30_000))
    with seeded(OneEach(8000), has_tls=False, **NOBODY_ANSWERS) as (place, devices):
        times, share, in_time = uvloop.run(paced(place, devices, 10_000))
    p99 = percentile(times, 0.99)
    shown = (
        f"{milliseconds(p99)} (p50 {milliseconds(percentile(times, 0.5))}, {in_time:.0f}/s at {share:.0%} of a core)"
    )
    found.append(Figure("P6", "10,000/s among 8,000 connections, p99", "≤ 2 ms", shown, p99 <= 0.002))
    return found, points
