"""Rows of rules, and of how they stand with each thing."""

import json
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, literal_column, or_, select, update

from entobot.automations.model import Phase, Watch
from entobot.automations.rules import Rule, body_of
from entobot.automations.tables import automations, watches
from entobot.core.permissions import parse_scopes, scope_text
from entobot.storage.database import Row, Transaction
from entobot.storage.upsert import upsert

_A, _W = automations.c, watches.c
_IS_ON = _A.is_on == literal_column("1")
_ONE = _A.automation_id == bindparam("of_rule")
NEWEST = "aut_~"

# rules

_INSERT = insert(automations)
_CHANGE = (
    update(automations)
    .where(_ONE)
    .values({name: bindparam(f"to_{name}") for name in (
        "body", "scopes", "made_by_device_id", "changed_at_ms", "device_id", "type", "next_at_ms",
    )})
)  # fmt: skip
_FIND = select(automations).where(_ONE)
_PAGE = (
    select(automations)
    .where(_A.automation_id < bindparam("before"))
    .order_by(_A.automation_id.desc())
    .limit(bindparam("count"))
)
_OWN_PAGE = _PAGE.where(_A.user_id == bindparam("user"))
_COUNT = select(func.count().label("many")).where(_A.user_id == bindparam("user"))
_DELETE = delete(automations).where(_ONE)
_LOOKING = select(automations).where(_IS_ON, or_(_A.device_id.is_not(None), _A.type.is_not(None)))
_LOOKING_AT = select(automations).where(
    _IS_ON, or_(_A.device_id == bindparam("device"), _A.type == bindparam("of_type"))
)
_ON = select(automations).where(_IS_ON)
_DUE = (
    select(automations)
    .where(_A.next_at_ms <= bindparam("now"), _IS_ON)
    .order_by(_A.next_at_ms)
    .limit(bindparam("count"))
)
_MOVE_ON = (
    update(automations)
    .where(_ONE, _A.next_at_ms == bindparam("from_next"), _IS_ON)
    .values(next_at_ms=bindparam("to_next"))
)
_FIRE = (
    update(automations)
    .where(_ONE, _IS_ON, or_(_A.fired_at_ms.is_(None), _A.fired_at_ms <= bindparam("before")))
    .values(fired_at_ms=bindparam("now"), fired=_A.fired + 1)
)
_SWITCH = (
    update(automations)
    .where(_ONE)
    .values(is_on=bindparam("to_on"), why_off=bindparam("why"), next_at_ms=bindparam("to_next"))
)
_OF_USER = select(automations).where(_A.user_id == bindparam("user"), _IS_ON)
_OF_MAKER = select(automations).where(_A.made_by_device_id == bindparam("device"), _IS_ON)


def insert_rule(tx: Transaction, one: Rule) -> None:
    tx.run(
        _INSERT,
        {
            "automation_id": one.automation_id,
            "user_id": one.user_id,
            "body": one.body.to_json(),
            "is_on": int(one.is_on),
            "why_off": one.why_off,
            "scopes": scope_text(one.scopes),
            "made_by_device_id": one.made_by_device_id,
            "made_at_ms": one.made_at_ms,
            "changed_at_ms": one.changed_at_ms,
            "device_id": one.device_id,
            "type": one.type,
            "next_at_ms": one.next_at_ms,
            "fired_at_ms": one.fired_at_ms,
            "fired": one.fired,
        },
    )


def change(tx: Transaction, one: Rule) -> None:
    """What it says, and with which rights."""
    tx.run(
        _CHANGE,
        {
            "of_rule": one.automation_id,
            "to_body": one.body.to_json(),
            "to_scopes": scope_text(one.scopes),
            "to_made_by_device_id": one.made_by_device_id,
            "to_changed_at_ms": one.changed_at_ms,
            "to_device_id": one.device_id,
            "to_type": one.type,
            "to_next_at_ms": one.next_at_ms,
        },
    )


def find_rule(tx: Transaction, automation_id: str) -> Rule | None:
    row = tx.first(_FIND, {"of_rule": automation_id})
    return None if row is None else _rule(row)


def page(tx: Transaction, user_id: str | None, before: str, count: int) -> list[Rule]:
    """Newest first; everybody's for None."""
    given: dict[str, Any] = {"before": before, "count": count}
    rows = tx.rows(_PAGE, given) if user_id is None else tx.rows(_OWN_PAGE, given | {"user": user_id})
    return [_rule(row) for row in rows]


def count_of(tx: Transaction, user_id: str) -> int:
    row = tx.first(_COUNT, {"user": user_id})
    return 0 if row is None else int(row["many"])


def delete_rule(tx: Transaction, automation_id: str) -> None:
    """Its firings stay until they are forgotten by age."""
    tx.run(_DELETE, {"of_rule": automation_id})
    drop_watches(tx, automation_id)


def all_on(tx: Transaction) -> list[Rule]:
    return [_rule(row) for row in tx.rows(_ON)]


def looking(tx: Transaction) -> list[Rule]:
    """Those that are on and look at things."""
    return [_rule(row) for row in tx.rows(_LOOKING)]


def looking_at(tx: Transaction, device_id: str, type_name: str | None) -> list[Rule]:
    return [_rule(row) for row in tx.rows(_LOOKING_AT, {"device": device_id, "of_type": type_name or ""})]


def on_of_user(tx: Transaction, user_id: str) -> list[Rule]:
    return [_rule(row) for row in tx.rows(_OF_USER, {"user": user_id})]


def on_of_maker(tx: Transaction, device_id: str) -> list[Rule]:
    return [_rule(row) for row in tx.rows(_OF_MAKER, {"device": device_id})]


def due(tx: Transaction, now_ms: int, count: int) -> list[Rule]:
    """Whose time has come."""
    return [_rule(row) for row in tx.rows(_DUE, {"now": now_ms, "count": count})]


def move_on(tx: Transaction, one: Rule, next_at_ms: int) -> bool:
    """False where somebody else has: of several that see the same time, one hears True."""
    given = {"of_rule": one.automation_id, "from_next": one.next_at_ms, "to_next": next_at_ms}
    return tx.run(_MOVE_ON, given) == 1


def fire(tx: Transaction, one: Rule, now_ms: int) -> bool:
    """False where it is off, or fired so short a time ago that it pauses."""
    return tx.run(_FIRE, {"of_rule": one.automation_id, "now": now_ms, "before": now_ms - one.pause_ms}) == 1


def switch(tx: Transaction, automation_id: str, *, is_on: bool, why_off: str, next_at_ms: int | None) -> None:
    tx.run(_SWITCH, {"of_rule": automation_id, "to_on": int(is_on), "why": why_off, "to_next": next_at_ms})


def _rule(row: Row) -> Rule:
    return Rule(
        automation_id=row["automation_id"],
        user_id=row["user_id"],
        body=body_of(json.loads(row["body"])),
        is_on=bool(row["is_on"]),
        why_off=row["why_off"],
        scopes=parse_scopes(row["scopes"]),
        made_by_device_id=row["made_by_device_id"],
        made_at_ms=int(row["made_at_ms"]),
        changed_at_ms=int(row["changed_at_ms"]),
        device_id=row["device_id"],
        type=row["type"],
        next_at_ms=row["next_at_ms"],
        fired_at_ms=row["fired_at_ms"],
        fired=int(row["fired"]),
    )


# how a rule stands with a thing

_PUT = upsert(watches)
_PUT_WATCH = _PUT.on_conflict_do_update(
    index_elements=["automation_id", "device_id"],
    set_={name: _PUT.excluded[name] for name in ("phase", "since_ms", "due_ms", "seen_ms", "value")},
)
_THIS = (_W.automation_id == bindparam("of_rule"), _W.device_id == bindparam("of_device"))
_WATCH = select(watches).where(*_THIS)
_SEEN = update(watches).where(*_THIS).values(seen_ms=bindparam("seen"))
_DUE_WATCHES = select(watches).where(_W.due_ms <= bindparam("now")).order_by(_W.due_ms).limit(bindparam("count"))
_TAKE = (
    update(watches)
    .where(
        *_THIS,
        _W.phase == Phase.HOLDING.value,
        _W.since_ms == bindparam("since"),
        _W.due_ms <= bindparam("now"),
    )
    .values(phase=Phase.FIRED.value, due_ms=None)
)
_DROP = delete(watches).where(_W.automation_id == bindparam("of_rule"))
_REST = update(watches).where(_W.automation_id == bindparam("of_rule")).values(due_ms=None)


def find_watch(tx: Transaction, automation_id: str, device_id: str) -> Watch | None:
    row = tx.first(_WATCH, {"of_rule": automation_id, "of_device": device_id})
    return None if row is None else _watch(row)


def put_watch(tx: Transaction, automation_id: str, device_id: str, one: Watch) -> None:
    tx.run(
        _PUT_WATCH,
        {
            "automation_id": automation_id,
            "device_id": device_id,
            "phase": one.phase,
            "since_ms": one.since_ms,
            "due_ms": one.due_ms,
            "seen_ms": one.seen_ms,
            "value": json.dumps(one.value, ensure_ascii=False),
        },
    )


def note_seen(tx: Transaction, automation_id: str, device_id: str, seen_ms: int) -> None:
    """Of a watch that stays as it is."""
    given = {"of_rule": automation_id, "of_device": device_id, "seen": seen_ms}
    tx.add_latest(_SEEN, f"{automation_id} {device_id}", given)


def due_watches(tx: Transaction, now_ms: int, count: int) -> list[tuple[str, str, Watch]]:
    """(rule, device, how it stands) of some that are to fire."""
    rows = tx.rows(_DUE_WATCHES, {"now": now_ms, "count": count})
    return [(row["automation_id"], row["device_id"], _watch(row)) for row in rows]


def take_watch(tx: Transaction, automation_id: str, device_id: str, one: Watch, now_ms: int) -> bool:
    """It fires for this. False where it did, or does not hold any more."""
    given = {"of_rule": automation_id, "of_device": device_id, "since": one.since_ms, "now": now_ms}
    return tx.run(_TAKE, given) == 1


def drop_watches(tx: Transaction, automation_id: str) -> None:
    """Of a rule that says something else now: it looks anew."""
    tx.run(_DROP, {"of_rule": automation_id})


def rest_watches(tx: Transaction, automation_id: str) -> None:
    """Of a rule that is off."""
    tx.run(_REST, {"of_rule": automation_id})


def _watch(row: Row) -> Watch:
    due_ms = row["due_ms"]
    return Watch(
        phase=Phase(row["phase"]),
        since_ms=int(row["since_ms"]),
        due_ms=None if due_ms is None else int(due_ms),
        seen_ms=int(row["seen_ms"]),
        value=json.loads(row["value"]),
    )
