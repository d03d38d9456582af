"""The tables of release keys, releases and their bytes, roll-outs and the devices in them."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.partial_index import partial_index
from entobot.storage.upsert import upsert
from entobot.updates.model import DeviceState, OnDevice, Rollout, Stage, State, Tally, Terms

PART_BYTES = 16 * 1024
"""Of a release, in one row: what a board asks for is read without the rest."""
LAST = "~"
"""Sorts after every id."""

keys = Table(
    "release_keys",
    metadata,
    Column("public_key", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("added_by", Text, nullable=False),
    Column("added_at_ms", BigInteger, nullable=False),
)
releases = Table(
    "releases",
    metadata,
    Column("release_id", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("manifest", Text, nullable=False),
    Column("public_key", Text, nullable=False),
    Column("envelope_bytes", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    Column("added_by", Text, nullable=False),
    Column("added_at_ms", BigInteger, nullable=False),
    UniqueConstraint("type", "version", name="uq_releases_version"),
)
parts = Table(
    "release_parts",
    metadata,
    Column("release_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)
rollouts = Table(
    "rollouts",
    metadata,
    Column("rollout_id", Text, primary_key=True),
    Column("release_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("stage", Integer, nullable=False),
    Column("stages", Text, nullable=False),
    Column("terms", Text, nullable=False),
    Column("forgiven", Integer, nullable=False),
    Column("why", Text, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("stage_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
    partial_index("ux_rollouts_open", "type", where="ended_at_ms IS NULL", unique=True),
)
devices = Table(
    "rollout_devices",
    metadata,
    Column("rollout_id", Text, primary_key=True),
    Column("device_id", Text, primary_key=True),
    Column("stage", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("from_version", Text, nullable=False),
    Column("installed_at_ms", BigInteger),
    Index("ix_rollout_devices_device", "device_id"),
    Index("ix_rollout_devices_state", "rollout_id", "state", "stage"),
)
_K, _R, _O, _D = keys.c, releases.c, rollouts.c, devices.c


@dataclass(frozen=True, slots=True)
class ReleaseKey:
    public_key: str
    name: str
    added_by: str
    added_at_ms: int


@dataclass(frozen=True, slots=True)
class Release:
    """`manifest` is the text that was signed; `size` of the whole, envelope and files."""

    release_id: str
    type: str
    version: str
    manifest: str
    public_key: str
    envelope_bytes: int
    size: int
    added_by: str
    added_at_ms: int


# -- release keys

_ADD_KEY = upsert(keys).on_conflict_do_nothing()
_KEYS = select(keys).order_by(_K.added_at_ms, _K.public_key)
_KEY = select(keys).where(_K.public_key == bindparam("of_key"))
_DROP_KEY = delete(keys).where(_K.public_key == bindparam("of_key"))


def add_key(tx: Transaction, one: ReleaseKey) -> bool:
    """False where it is there."""
    return tx.run(_ADD_KEY, asdict(one)) == 1


def list_keys(tx: Transaction) -> list[ReleaseKey]:
    return [_key(row) for row in tx.rows(_KEYS)]


def find_key(tx: Transaction, public_key: str) -> ReleaseKey | None:
    row = tx.first(_KEY, {"of_key": public_key})
    return None if row is None else _key(row)


def drop_key(tx: Transaction, public_key: str) -> bool:
    return tx.run(_DROP_KEY, {"of_key": public_key}) == 1


def _key(row: Row) -> ReleaseKey:
    return ReleaseKey(row["public_key"], row["name"], row["added_by"], int(row["added_at_ms"]))


# -- releases

_ADD_RELEASE = upsert(releases).on_conflict_do_nothing()
_RELEASE = select(releases).where(_R.release_id == bindparam("release"))
_OF_VERSION = select(releases).where(_R.type == bindparam("of_type"), _R.version == bindparam("of_version"))
_RELEASES = (
    select(releases).where(_R.release_id < bindparam("before")).order_by(_R.release_id.desc()).limit(bindparam("count"))
)
_COUNT = select(func.count().label("many")).select_from(releases)
_DROP_RELEASE = delete(releases).where(
    _R.release_id == bindparam("release"),
    ~select(_O.rollout_id).where(_O.release_id == bindparam("release"), _O.ended_at_ms.is_(None)).exists(),
)
_DROP_PARTS = delete(parts).where(parts.c.release_id == bindparam("release"))
_ADD_PART = insert(parts)
_PART = select(parts.c.data).where(parts.c.release_id == bindparam("release"), parts.c.number == bindparam("of_number"))


def add_release(tx: Transaction, one: Release, data: bytes) -> bool:
    """False where this version of this type is there."""
    if tx.run(_ADD_RELEASE, asdict(one)) != 1:
        return False
    for number in range(-(-len(data) // PART_BYTES)):
        piece = data[number * PART_BYTES : (number + 1) * PART_BYTES]
        tx.run(_ADD_PART, {"release_id": one.release_id, "number": number, "data": piece})
    return True


def find_release(tx: Transaction, release_id: str) -> Release | None:
    row = tx.first(_RELEASE, {"release": release_id})
    return None if row is None else _release(row)


def find_version(tx: Transaction, of_type: str, version: str) -> Release | None:
    row = tx.first(_OF_VERSION, {"of_type": of_type, "of_version": version})
    return None if row is None else _release(row)


def page_of_releases(tx: Transaction, before: str, count: int) -> list[Release]:
    """Newest first."""
    return [_release(row) for row in tx.rows(_RELEASES, {"before": before, "count": count})]


def count_releases(tx: Transaction) -> int:
    row = tx.first(_COUNT)
    return 0 if row is None else int(row["many"])


def drop_release(tx: Transaction, release_id: str) -> bool:
    """False while it is being rolled out."""
    if tx.run(_DROP_RELEASE, {"release": release_id}) != 1:
        return False
    tx.run(_DROP_PARTS, {"release": release_id})
    return True


def part(tx: Transaction, release_id: str, number: int) -> bytes | None:
    row = tx.first(_PART, {"release": release_id, "of_number": number})
    return None if row is None else bytes(row["data"])


def _release(row: Row) -> Release:
    return Release(**{name: row[name] for name in Release.__dataclass_fields__})


# -- roll-outs

_ADD_ROLLOUT = upsert(rollouts).on_conflict_do_nothing()
_ROLLOUT = select(rollouts).where(_O.rollout_id == bindparam("rollout"))
_ROLLOUTS = (
    select(rollouts).where(_O.rollout_id < bindparam("before")).order_by(_O.rollout_id.desc()).limit(bindparam("count"))
)
_OPEN = select(rollouts).where(_O.ended_at_ms.is_(None))
_OPEN_STATES = select(_O.state, func.count().label("many")).where(_O.ended_at_ms.is_(None)).group_by(_O.state)
_OPEN_OF_KEY = (
    select(rollouts)
    .join(releases, _R.release_id == _O.release_id)
    .where(_O.ended_at_ms.is_(None), _R.public_key == bindparam("of_key"))
)
_ADVANCE = (
    update(rollouts)
    .where(_O.rollout_id == bindparam("rollout"), _O.state == State.RUNNING.value, _O.stage == bindparam("from_stage"))
    .values(stage=bindparam("to_stage"), stage_at_ms=bindparam("now"))
)
_MOVE = (
    update(rollouts)
    .where(_O.rollout_id == bindparam("rollout"), _O.state == bindparam("from_state"), _O.ended_at_ms.is_(None))
    .values(
        state=bindparam("to_state"),
        why=bindparam("to_why"),
        ended_at_ms=bindparam("to_end", type_=BigInteger),
        forgiven=bindparam("to_forgiven"),
    )
)


def add_rollout(tx: Transaction, one: Rollout) -> bool:
    """False where one of this type is open."""
    given = {name: getattr(one, name) for name in Rollout.__dataclass_fields__}
    given |= {"stages": json.dumps([asdict(stage) for stage in one.stages]), "terms": json.dumps(asdict(one.terms))}
    return tx.run(_ADD_ROLLOUT, given) == 1


def find_rollout(tx: Transaction, rollout_id: str) -> Rollout | None:
    row = tx.first(_ROLLOUT, {"rollout": rollout_id})
    return None if row is None else _rollout(row)


def page_of_rollouts(tx: Transaction, before: str, count: int) -> list[Rollout]:
    """Newest first."""
    return [_rollout(row) for row in tx.rows(_ROLLOUTS, {"before": before, "count": count})]


def open_now(tx: Transaction) -> list[Rollout]:
    """Those that run, and those that are paused."""
    return [_rollout(row) for row in tx.rows(_OPEN)]


def open_tally(tx: Transaction) -> tuple[dict[State, int], dict[DeviceState, int]]:
    """How many are not over, by state, and how many devices are in those, by theirs."""
    states = {State(row["state"]): int(row["many"]) for row in tx.rows(_OPEN_STATES)}
    return states, {DeviceState(row["state"]): int(row["many"]) for row in tx.rows(_OPEN_DEVICES)}


def open_of_key(tx: Transaction, public_key: str) -> list[Rollout]:
    return [_rollout(row) for row in tx.rows(_OPEN_OF_KEY, {"of_key": public_key})]


def advance(tx: Transaction, one: Rollout, now_ms: int) -> bool:
    """False where it is not at this stage any more, or does not run."""
    given = {"rollout": one.rollout_id, "from_stage": one.stage, "to_stage": one.stage + 1, "now": now_ms}
    return tx.run(_ADVANCE, given) == 1


def move(tx: Transaction, one: Rollout, to: State, why: str, ended_at_ms: int | None, forgiven: int) -> bool:
    """False where its state is another one meanwhile."""
    given = {
        "rollout": one.rollout_id,
        "from_state": one.state.value,
        "to_state": to.value,
        "to_why": why,
        "to_end": ended_at_ms,
        "to_forgiven": forgiven,
    }
    return tx.run(_MOVE, given) == 1


def _rollout(row: Row) -> Rollout:
    stages = tuple(
        Stage(one["percent"], tuple(one["tags"]), tuple(one["devices"])) for one in json.loads(row["stages"])
    )
    plain = {name: row[name] for name in Rollout.__dataclass_fields__}
    plain |= {"state": State(row["state"]), "stages": stages, "terms": Terms(**json.loads(row["terms"]))}
    return Rollout(**plain)


# -- devices in roll-outs

_ADD_DEVICE = insert(devices)
_ONE = select(devices).where(_D.rollout_id == bindparam("rollout"), _D.device_id == bindparam("device"))
_OPEN_OF_DEVICE = (
    select(devices)
    .join(rollouts, _O.rollout_id == _D.rollout_id)
    .where(_D.device_id == bindparam("device"), _O.ended_at_ms.is_(None))
)
_PAGE = (
    select(devices)
    .where(_D.rollout_id == bindparam("rollout"), _D.device_id > bindparam("after"))
    .order_by(_D.device_id)
    .limit(bindparam("count"))
)
_IN_STATE = (
    select(devices)
    .where(
        _D.rollout_id == bindparam("rollout"),
        _D.state == bindparam("of_state"),
        _D.stage <= bindparam("up_to"),
        _D.device_id > bindparam("after"),
    )
    .order_by(_D.device_id)
    .limit(bindparam("count"))
)
_TALLY = (
    select(_D.stage, _D.state, func.count().label("many"))
    .where(_D.rollout_id == bindparam("rollout"))
    .group_by(_D.stage, _D.state)
)
_OPEN_DEVICES = (
    select(_D.state, func.count().label("many"))
    .join(rollouts, _O.rollout_id == _D.rollout_id)
    .where(_O.ended_at_ms.is_(None))
    .group_by(_D.state)
)
_FRESH = select(func.count().label("many")).where(
    _D.rollout_id == bindparam("rollout"),
    _D.state == DeviceState.OFFERED.value,
    _D.stage <= bindparam("up_to"),
    _D.since_ms > bindparam("since"),
)
_CHANGE = (
    update(devices)
    .where(
        _D.rollout_id == bindparam("rollout"),
        _D.device_id == bindparam("device"),
        _D.state == bindparam("from_state"),
    )
    .values(
        state=bindparam("to_state"),
        since_ms=bindparam("now"),
        reason=bindparam("to_reason"),
        installed_at_ms=bindparam("to_installed", type_=BigInteger),
    )
)
_BACK = (
    update(devices)
    .where(
        _D.rollout_id == bindparam("rollout"),
        _D.state.in_((DeviceState.OFFERED.value, DeviceState.DOWNLOADING.value)),
    )
    .values(state=DeviceState.WAITING.value, since_ms=bindparam("now"))
)
_DROP_DEVICE = delete(devices).where(
    _D.device_id == bindparam("device"),
    _D.rollout_id.in_(select(_O.rollout_id).where(_O.ended_at_ms.is_(None))),
)


def add_device(tx: Transaction, one: OnDevice) -> None:
    tx.run(_ADD_DEVICE, asdict(one))


def find_device(tx: Transaction, rollout_id: str, device_id: str) -> OnDevice | None:
    row = tx.first(_ONE, {"rollout": rollout_id, "device": device_id})
    return None if row is None else _device(row)


def open_of_device(tx: Transaction, device_id: str) -> list[OnDevice]:
    """In roll-outs that are not over."""
    return [_device(row) for row in tx.rows(_OPEN_OF_DEVICE, {"device": device_id})]


def page_of_devices(tx: Transaction, rollout_id: str, after: str, count: int) -> list[OnDevice]:
    return [_device(row) for row in tx.rows(_PAGE, {"rollout": rollout_id, "after": after, "count": count})]


def in_state(
    tx: Transaction, rollout_id: str, state: DeviceState, up_to: int, after: str, count: int
) -> list[OnDevice]:
    """Of the stages up to this one, by id."""
    given = {"rollout": rollout_id, "of_state": state.value, "up_to": up_to, "after": after, "count": count}
    return [_device(row) for row in tx.rows(_IN_STATE, given)]


def tallies(tx: Transaction, rollout_id: str) -> dict[int, dict[DeviceState, int]]:
    """Devices of each stage, by state."""
    found: dict[int, dict[DeviceState, int]] = {}
    for row in tx.rows(_TALLY, {"rollout": rollout_id}):
        found.setdefault(int(row["stage"]), {})[DeviceState(row["state"])] = int(row["many"])
    return found


def tally(tx: Transaction, one: Rollout, now_ms: int) -> Tally:
    """Of the stages so far."""
    total: dict[DeviceState, int] = {}
    for stage, states in tallies(tx, one.rollout_id).items():
        if stage <= one.stage:
            for state, many in states.items():
                total[state] = total.get(state, 0) + many
    given = {"rollout": one.rollout_id, "up_to": one.stage, "since": now_ms - one.terms.timeout_ms}
    row = tx.first(_FRESH, given)
    return Tally(total, 0 if row is None else int(row["many"]))


def change(tx: Transaction, one: OnDevice, to: DeviceState, now_ms: int, reason: str = "") -> bool:
    """False where its state is another one meanwhile."""
    given = {
        "rollout": one.rollout_id,
        "device": one.device_id,
        "from_state": one.state.value,
        "to_state": to.value,
        "now": now_ms,
        "to_reason": reason,
        "to_installed": now_ms if to is DeviceState.INSTALLED else one.installed_at_ms,
    }
    return tx.run(_CHANGE, given) == 1


def take_back(tx: Transaction, rollout_id: str, now_ms: int) -> None:
    """What was offered waits again."""
    tx.run(_BACK, {"rollout": rollout_id, "now": now_ms})


def drop_device(tx: Transaction, device_id: str) -> None:
    """Out of every roll-out that is not over."""
    tx.run(_DROP_DEVICE, {"device": device_id})


def _device(row: Row) -> OnDevice:
    plain: dict[str, Any] = {name: row[name] for name in OnDevice.__dataclass_fields__}
    plain["state"] = DeviceState(row["state"])
    return OnDevice(**plain)
