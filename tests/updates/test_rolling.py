"""Releases and roll-outs on a real database: the same on every store, and whoever looks at once."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from entobot.audit.events import AuditEvent
from entobot.core.errors import Code, Problem
from entobot.core.principal import Principal
from entobot.mqtt.model import Message
from entobot.storage.database import Transaction
from entobot.telemetry.meters import Histogram, Meters
from entobot.things.intake import Bounds, Intake
from entobot.things.model import Pace
from entobot.things.service import Things
from entobot.things.types import ThingType
from entobot.updates.manifest import MAGIC
from entobot.updates.model import DeviceState, Rollout, Stage, State, Terms
from entobot.updates.rolling import Rollouts, Wanted
from entobot.updates.service import Updates
from entobot.updates.signing import make_release, public_text
from tests.devices.conftest import File, House
from tests.support.time import ManualClock, SeededEntropy

ON_EVERY_STORE = True
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
TERMS = Terms(health_ms=60_000, timeout_ms=600_000, max_failed_percent=40)


def release(
    version: str = "1.1.0", key: Ed25519PrivateKey = KEY, program: bytes = b"new", of_type: str = "sensor"
) -> bytes:
    said = {"type": of_type, "version": version, "counter": 7, "created": "2026-11-20T09:30:00Z"}
    return make_release([("main.py", program), ("lib/a.py", bytes(40_000))], key, **said)


class Fleet:
    """Boards of one type, and what they were told."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.meters = Meters()
        self.things = Things(
            database=house.database,
            clock=house.clock,
            ids=house.ids,
            audit=house.audit,
            accounts=house.accounts,
            devices=house.devices,
            meters=Meters(),
            keep_readings_ms=10**9,
        )
        self.things.send = self._tell
        self.intake = Intake(Bounds(Pace(10**9, 10**9), 10**9), Meters(), house.clock)
        self.updates = Updates(
            database=house.database, clock=house.clock, ids=house.ids, audit=house.audit, guard=house.devices.guard
        )
        self.rollouts = Rollouts(
            database=house.database,
            clock=house.clock,
            ids=house.ids,
            audit=house.audit,
            devices=house.devices,
            things=self.things,
            guard=house.devices.guard,
            meters=self.meters,
        )
        self.updates.on_key_removed.append(self.rollouts.key_removed)
        house.devices.on_end.append(self.rollouts.forget)
        self.boards: list[str] = []

    def _tell(
        self, tx: Transaction, device_id: str, user_id: str, topic: str, payload: bytes, now_ms: int, ends_at_ms: int
    ) -> None:
        assert topic == "update"
        tx.after_commit(lambda: self.told.append((device_id, json.loads(payload))))

    async def fill(self, count: int) -> None:
        self.owner = await self.house.devices.local_owner()
        await self.do(lambda tx, now: self.things.put_type(tx, self.owner, ThingType(name="sensor"), now))
        await self.do(lambda tx, now: self.updates.add_key(tx, self.owner, public_text(KEY), "Workshop", now))
        for _ in range(count):
            _, device_id = await self.house.pair()
            self.boards.append(device_id)
            await self.do(lambda tx, now, one=device_id: self.things.assign(tx, self.owner, one, "sensor", now))
            await self.status(device_id, "1.0.0")

    async def do(self, what: Any) -> Any:
        now_ms = self.house.now_ms
        return await self.house.database.write(lambda tx: what(tx, now_ms))

    async def status(self, device_id: str, firmware: str, status: str = "online") -> None:
        await self.say(device_id, "status", {"status": status, "firmware": firmware})

    async def event(self, device_id: str, state: str, reason: str = "") -> None:
        _, offer = next(one for one in reversed(self.told) if one[0] == device_id)
        data = {"release_id": offer["release_id"], "state": state, "reason": reason}
        await self.say(device_id, "event", {"event": "update", "data": data})

    async def say(self, device_id: str, what: str, said: Any, by: str | None = None) -> None:
        def unit(tx: Transaction, now_ms: int) -> None:
            topic = f"devices/{device_id}/{what}"
            message = Message(topic, json.dumps(said).encode(), 1, False, by or device_id, self.owner.user_id, now_ms)
            self.intake.take(tx, message)
            self.rollouts.arrived(tx, message)

        await self.do(unit)

    async def begin(self, *stages: Stage, terms: Terms = TERMS, version: str = "1.1.0") -> Rollout:
        wanted = Wanted("sensor", version, stages or (Stage(percent=100),), terms)
        return await self.do(lambda tx, now: self.rollouts.begin(tx, self.owner, wanted, now))

    async def rollout(self, one: Rollout) -> Rollout:
        return await self.house.database.read(lambda tx: self.rollouts.get(tx, one.rollout_id))

    async def states(self, one: Rollout) -> dict[str, DeviceState]:
        read = self.house.database.read
        rows, _ = await read(lambda tx: self.rollouts.devices(tx, self.owner, one.rollout_id, "", 100))
        return {row.device_id: row.state for row, _ in rows}

    def measured(self) -> dict[str, dict[str, float]]:
        """By metric, then by state: what is not 0."""
        return {
            family.metric.name: {
                key[0]: one.value for key, one in family.series.items() if not isinstance(one, Histogram) and one.value
            }
            for family in self.meters.families()
        }

    async def pass_on(self, seconds: float) -> None:
        self.house.clock.advance(seconds)
        await self.rollouts.look()


@pytest.fixture
async def fleet(tmp_path: Path, clock: ManualClock, entropy: SeededEntropy) -> AsyncIterator[Fleet]:
    house = House(tmp_path, clock, entropy, (File(), File()))
    await house.database.start()
    await house.owner()
    made = Fleet(house)
    await made.fill(4)
    yield made
    await house.database.stop()


async def refused(doing: Any) -> Code:
    with pytest.raises(Problem) as caught:
        await doing
    return caught.value.code


async def test_only_whole_releases_of_registered_keys_are_taken_and_each_once(fleet: Fleet) -> None:
    good = release()
    assert await refused(fleet.updates.add(fleet.owner, release(key=OTHER))) is Code.SIGNATURE_INVALID
    forged = good.replace(b'"signature":"', b'"signature":"A', 1).replace(b'"}\n', b'"}\n', 1)
    assert await refused(fleet.updates.add(fleet.owner, forged)) is Code.INVALID
    head, line, rest = good.split(b"\n", 2)
    said = json.loads(line)
    said["manifest"] = said["manifest"].replace("1.1.0", "1.1.1")
    swapped = head + b"\n" + json.dumps(said).encode() + b"\n" + rest
    assert await refused(fleet.updates.add(fleet.owner, swapped)) is Code.SIGNATURE_INVALID
    for broken in (b"", MAGIC, good[:-1], good + b"x", good.replace(b"new", b"NEW")):
        assert await refused(fleet.updates.add(fleet.owner, broken)) is Code.INVALID
    made = await fleet.updates.add(fleet.owner, good)
    assert (await fleet.updates.add(fleet.owner, good)).release_id == made.release_id
    assert await refused(fleet.updates.add(fleet.owner, release(program=b"else"))) is Code.INVALID
    assert fleet.house.audit.events().count(AuditEvent.RELEASE_ADDED) == 1
    assert fleet.house.audit.events().count(AuditEvent.RELEASE_REFUSED) == 8


async def test_stages_follow_one_another_and_each_board_is_told_once_whoever_looks(fleet: Fleet) -> None:
    await fleet.updates.add(fleet.owner, release())
    one = await fleet.begin(Stage(percent=50), Stage(percent=100))
    await asyncio.gather(*(fleet.rollouts.look() for _ in range(5)))
    first = [device_id for device_id, _ in fleet.told]
    assert len(first) == len(set(first)) == 2
    for device_id in first:
        await fleet.event(device_id, "downloading")
        await fleet.status(device_id, "1.1.0")
    await fleet.pass_on(59)
    assert (await fleet.rollout(one)).stage == 0
    await asyncio.gather(*(fleet.pass_on(1) for _ in range(3)))
    await fleet.rollouts.look()
    assert (await fleet.rollout(one)).stage == 1
    assert sorted(device_id for device_id, _ in fleet.told) == sorted(fleet.boards)
    for device_id in fleet.boards:
        await fleet.status(device_id, "1.1.0")
    await fleet.pass_on(60)
    await fleet.rollouts.look()
    assert (await fleet.rollout(one)).state is State.DONE
    assert set((await fleet.states(one)).values()) == {DeviceState.HEALTHY}
    await fleet.rollouts.look()
    steps = {"offered": 4.0, "downloading": 2.0, "installed": 4.0, "healthy": 4.0}
    assert fleet.measured() == {"ROLLOUTS": {}, "ROLLOUT_DEVICES": {}, "UPDATE_STEPS": steps}, "nothing is open"
    events = fleet.house.audit.events()
    assert [events.count(e) for e in (AuditEvent.ROLLOUT_ADVANCED, AuditEvent.ROLLOUT_DONE)] == [1, 1]


async def test_too_many_failures_pause_it_and_what_was_seen_is_forgiven(fleet: Fleet) -> None:
    await fleet.updates.add(fleet.owner, release())
    one = await fleet.begin()
    await fleet.event(fleet.boards[0], "failed", "no room\x07")
    await fleet.pass_on(1)
    assert (await fleet.rollout(one)).state is State.RUNNING
    await fleet.event(fleet.boards[1], "downloading")
    await fleet.status(fleet.boards[1], "1.1.0")
    await fleet.status(fleet.boards[1], "1.0.0")
    await fleet.pass_on(1)
    paused = await fleet.rollout(one)
    assert (paused.state, paused.why) == (State.PAUSED, "too many devices failed")
    told = len(fleet.told)
    await fleet.rollouts.look()
    steps = {"offered": 4.0, "failed": 1.0, "downloading": 1.0, "installed": 1.0, "rolled_back": 1.0}
    assert fleet.measured() == {
        "ROLLOUTS": {"paused": 1},
        "ROLLOUT_DEVICES": {"offered": 2, "failed": 1, "rolled_back": 1},
        "UPDATE_STEPS": steps,
    }
    await fleet.status(fleet.boards[2], "1.0.0")
    assert len(fleet.told) == told  # nothing is offered while it is paused
    await fleet.do(lambda tx, now: fleet.rollouts.resume(tx, fleet.owner, one.rollout_id, now))
    await fleet.pass_on(1)
    assert (await fleet.rollout(one)).state is State.RUNNING
    assert sorted(device_id for device_id, _ in fleet.told[told:]) == sorted(fleet.boards[2:])
    assert (await fleet.states(one))[fleet.boards[1]] is DeviceState.ROLLED_BACK


async def test_only_a_board_to_which_it_is_brought_now_gets_the_bytes(fleet: Fleet) -> None:
    data = release()
    made = await fleet.updates.add(fleet.owner, data)

    async def bytes_for(device_id: str | None, first: int = 0, last: int | None = None) -> bytes | Code:
        who = fleet.owner
        if device_id is not None:
            device = await fleet.house.device(device_id)
            who = Principal(device.user_id, frozenset(), device_id, device.epoch, device.thumbprint)
        try:
            read = fleet.house.database.read
            piece = await read(lambda tx: fleet.updates.open_piece(tx, who, made.release_id, (first, last)))
        except Problem as problem:
            return problem.code
        return b"".join([some async for some in fleet.updates.bytes_of(piece)])

    board, other = fleet.boards[:2]
    assert await bytes_for(board) is Code.NOT_FOUND
    one = await fleet.begin(Stage(devices=(board,)))
    assert await bytes_for(board) == data
    for first, last in ((0, 0), (1, 16_384), (16_383, 16_384), (40_000, None), (5, 10**9)):
        assert await bytes_for(board, first, last) == data[first : None if last is None else last + 1]
    assert await bytes_for(board, len(data)) is Code.INVALID
    assert await bytes_for(board, 9, 8) is Code.INVALID
    assert await bytes_for(other) is Code.NOT_FOUND
    assert await bytes_for(None) is Code.NOT_FOUND
    await fleet.do(lambda tx, now: fleet.rollouts.pause(tx, fleet.owner, one.rollout_id, now))
    assert await bytes_for(board) is Code.NOT_FOUND
    await fleet.do(lambda tx, now: fleet.rollouts.resume(tx, fleet.owner, one.rollout_id, now))
    await fleet.status(board, "1.1.0")
    assert await bytes_for(board) is Code.NOT_FOUND


async def test_a_board_speaks_for_itself_alone_and_nonsense_moves_nothing(fleet: Fleet) -> None:
    await fleet.updates.add(fleet.owner, release())
    one = await fleet.begin()
    board, other = fleet.boards[:2]
    release_id = one.release_id
    await fleet.say(board, "status", {"status": "online", "firmware": "1.1.0"}, by=other)
    for data in (None, [], {}, {"release_id": release_id}, {"release_id": "rel_x", "state": "failed"},
                 {"release_id": release_id, "state": "healthy"}, {"release_id": release_id, "state": ["failed"]},
                 {"release_id": release_id, "state": "failed", "reason": 5}):  # fmt: skip
        await fleet.say(board, "event", {"event": "update", "data": data})
    await fleet.say(board, "event", {"event": "other", "data": {"release_id": release_id, "state": "failed"}})
    assert set((await fleet.states(one)).values()) == {DeviceState.OFFERED}


async def test_of_one_type_one_roll_out_is_open_and_its_release_stays(fleet: Fleet) -> None:
    await fleet.updates.add(fleet.owner, release())
    await fleet.updates.add(fleet.owner, release("1.2.0"))
    assert await refused(fleet.begin(version="9.9.9")) is Code.NOT_FOUND
    assert await refused(fleet.begin(Stage(tags=("nowhere",)))) is Code.INVALID
    assert await refused(fleet.begin(Stage(percent=50), Stage(percent=50))) is Code.INVALID
    found = await asyncio.gather(*(fleet.begin(version=v) for v in ("1.1.0", "1.2.0") * 3), return_exceptions=True)
    (one,) = [made for made in found if isinstance(made, Rollout)]
    assert {made.code for made in found if isinstance(made, Problem)} == {Code.INVALID}
    remove = lambda tx, now: fleet.updates.remove(tx, fleet.owner, one.release_id, now)  # noqa: E731
    assert await refused(fleet.do(remove)) is Code.INVALID
    await fleet.do(lambda tx, now: fleet.rollouts.abort(tx, fleet.owner, one.rollout_id, now))
    await fleet.do(remove)
    assert await fleet.house.count("release_parts") > 0
    other = await fleet.begin(version="1.2.0" if one.version == "1.1.0" else "1.1.0")
    assert other.state is State.RUNNING
    await fleet.rollouts.look()
    found = {name: fleet.measured()[name] for name in ("ROLLOUTS", "ROLLOUT_DEVICES")}
    assert found == {"ROLLOUTS": {"running": 1}, "ROLLOUT_DEVICES": {"offered": 4}}, "of what is over nothing counts"


async def test_a_key_that_is_removed_pauses_what_it_signed_and_it_does_not_go_on(fleet: Fleet) -> None:
    await fleet.updates.add(fleet.owner, release())
    one = await fleet.begin()
    await fleet.do(lambda tx, now: fleet.updates.remove_key(tx, fleet.owner, public_text(KEY), now))
    assert (await fleet.rollout(one)).why == "the key that signed it was removed"
    resume = lambda tx, now: fleet.rollouts.resume(tx, fleet.owner, one.rollout_id, now)  # noqa: E731
    assert await refused(fleet.do(resume)) is Code.INVALID


async def test_a_board_that_is_revoked_is_in_no_roll_out_and_holds_up_none(fleet: Fleet) -> None:
    await fleet.updates.add(fleet.owner, release())
    one = await fleet.begin()
    for device_id in fleet.boards[1:]:
        await fleet.status(device_id, "1.1.0")
    await fleet.house.devices.revoke(fleet.owner, fleet.boards[0])
    await fleet.pass_on(60)
    await fleet.rollouts.look()
    assert (await fleet.rollout(one)).state is State.DONE
    assert fleet.boards[0] not in await fleet.states(one)
