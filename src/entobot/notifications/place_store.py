"""Tables of the places where people are reached, and of how each person wants to be reached."""

import json
from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, bindparam, delete, func, insert, select, update

from entobot.notifications.model import Channel, Place
from entobot.notifications.rules import DEFAULT, Rules, from_json, to_json
from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.upsert import upsert

places = Table(
    "notification_places",
    metadata,
    Column("place_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("device_id", Text),
    Column("p256dh", Text, nullable=False),
    Column("auth", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("is_confirmed", Integer, nullable=False),
    Column("code_digest", Text),
    Column("code_ends_at_ms", BigInteger),
    Column("code_tries", Integer, nullable=False, server_default="0"),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("last_ok_at_ms", BigInteger),
    Column("last_failed_at_ms", BigInteger),
    Column("reason", Text, nullable=False),
    Index("ix_notification_places_user", "user_id", "place_id"),
    Index("ix_notification_places_device", "device_id"),
    Index("ix_notification_places_address", "channel", "address"),
)
rules = Table(
    "notification_rules",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("rules", Text, nullable=False),
)

_P = places.c
_INSERT = insert(places)
_BY_ID = select(places).where(_P.place_id == bindparam("place"))
_OF_USER = select(places).where(_P.user_id == bindparam("user")).order_by(_P.place_id).limit(bindparam("count"))
_OF_DEVICE = select(places).where(_P.device_id == bindparam("device")).order_by(_P.place_id)
_BY_ADDRESS = select(places).where(_P.channel == bindparam("of_channel"), _P.address == bindparam("at"))
_COUNT = select(func.count().label("n")).where(_P.channel == bindparam("of_channel"))
_DELETE = delete(places).where(_P.place_id == bindparam("place"))
_OK = update(places).where(_P.place_id == bindparam("place")).values(last_ok_at_ms=bindparam("now"), reason="")
_FAILED = (
    update(places)
    .where(_P.place_id == bindparam("place"))
    .values(last_failed_at_ms=bindparam("now"), reason=bindparam("why"))
)
_CODE = select(_P.code_digest, _P.code_ends_at_ms, _P.code_tries).where(_P.place_id == bindparam("place"))
_SET_CODE = (
    update(places)
    .where(_P.place_id == bindparam("place"))
    .values(code_digest=bindparam("to_digest"), code_ends_at_ms=bindparam("to_end"), code_tries=0)
)
_COUNT_TRY = (
    update(places)
    .where(_P.place_id == bindparam("place"), _P.code_tries < bindparam("most"))
    .values(code_tries=_P.code_tries + 1)
)
_CONFIRM = (
    update(places)
    .where(_P.place_id == bindparam("place"))
    .values(is_confirmed=1, code_digest=None, code_ends_at_ms=None)
)
_RULES = select(rules).where(rules.c.user_id == bindparam("user"))
_WRITE_RULES = upsert(rules)
_PUT_RULES = _WRITE_RULES.on_conflict_do_update(index_elements=["user_id"], set_={"rules": _WRITE_RULES.excluded.rules})
_DROP_RULES = delete(rules).where(rules.c.user_id == bindparam("user"))


@dataclass(frozen=True, slots=True)
class Code:
    """What confirms an address: a keyed digest, until when it holds, and how often it was tried."""

    digest: str
    ends_at_ms: int
    tries: int


def insert_place(tx: Transaction, one: Place) -> None:
    tx.run(
        _INSERT,
        {
            "place_id": one.place_id,
            "user_id": one.user_id,
            "channel": one.channel,
            "address": one.address,
            "device_id": one.device_id,
            "p256dh": one.p256dh,
            "auth": one.auth,
            "name": one.name,
            "is_confirmed": int(one.is_confirmed),
            "created_at_ms": one.created_at_ms,
            "last_ok_at_ms": one.last_ok_at_ms,
            "last_failed_at_ms": one.last_failed_at_ms,
            "reason": one.reason,
        },
    )


def find_place(tx: Transaction, place_id: str) -> Place | None:
    row = tx.first(_BY_ID, {"place": place_id})
    return None if row is None else _place(row)


def places_at(tx: Transaction, channel: Channel, address: str) -> list[Place]:
    return [_place(row) for row in tx.rows(_BY_ADDRESS, {"of_channel": channel, "at": address})]


def places_of(tx: Transaction, user_id: str, count: int = 100) -> list[Place]:
    return [_place(row) for row in tx.rows(_OF_USER, {"user": user_id, "count": count})]


def places_of_device(tx: Transaction, device_id: str) -> list[Place]:
    return [_place(row) for row in tx.rows(_OF_DEVICE, {"device": device_id})]


def count_places(tx: Transaction, channel: Channel) -> int:
    row = tx.first(_COUNT, {"of_channel": channel})
    return 0 if row is None else int(row["n"])


def drop_place(tx: Transaction, place_id: str) -> None:
    tx.run(_DELETE, {"place": place_id})


def note_ok(tx: Transaction, place_id: str, now_ms: int) -> None:
    tx.run(_OK, {"place": place_id, "now": now_ms})


def note_failed(tx: Transaction, place_id: str, why: str, now_ms: int) -> None:
    tx.run(_FAILED, {"place": place_id, "why": why, "now": now_ms})


# -- confirming an address


def set_code(tx: Transaction, place_id: str, digest: str, ends_at_ms: int) -> None:
    tx.run(_SET_CODE, {"place": place_id, "to_digest": digest, "to_end": ends_at_ms})


def find_code(tx: Transaction, place_id: str) -> Code | None:
    row = tx.first(_CODE, {"place": place_id})
    if row is None or row["code_digest"] is None:
        return None
    return Code(row["code_digest"], int(row["code_ends_at_ms"]), int(row["code_tries"]))


def count_try(tx: Transaction, place_id: str, most: int) -> bool:
    """False where it was tried too often."""
    return tx.run(_COUNT_TRY, {"place": place_id, "most": most}) == 1


def confirm(tx: Transaction, place_id: str) -> None:
    tx.run(_CONFIRM, {"place": place_id})


# -- rules


def rules_of(tx: Transaction, user_id: str) -> Rules:
    row = tx.first(_RULES, {"user": user_id})
    return DEFAULT if row is None else from_json(json.loads(row["rules"]))


def put_rules(tx: Transaction, user_id: str, wanted: Rules) -> None:
    tx.run(_PUT_RULES, {"user_id": user_id, "rules": json.dumps(to_json(wanted))})


def drop_rules(tx: Transaction, user_id: str) -> None:
    tx.run(_DROP_RULES, {"user": user_id})


def _place(row: Row) -> Place:
    def number(name: str) -> int | None:
        return None if row[name] is None else int(row[name])

    return Place(
        place_id=row["place_id"],
        user_id=row["user_id"],
        channel=Channel(row["channel"]),
        address=row["address"],
        device_id=row["device_id"],
        p256dh=row["p256dh"],
        auth=row["auth"],
        name=row["name"],
        is_confirmed=bool(row["is_confirmed"]),
        created_at_ms=int(row["created_at_ms"]),
        last_ok_at_ms=number("last_ok_at_ms"),
        last_failed_at_ms=number("last_failed_at_ms"),
        reason=row["reason"],
    )
