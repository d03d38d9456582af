"""Rows of firings, and of what they do: the queue that is worked off, and the history that is kept."""

import json
from collections.abc import Iterable
from dataclasses import asdict

from sqlalchemy import bindparam, delete, func, insert, select, update

from entobot.automations.model import Action, ActionState, Cause, Firing, FiringState, Kind
from entobot.automations.tables import actions, firings
from entobot.storage.database import Row, Transaction
from entobot.storage.upsert import upsert

_F, _C = firings.c, actions.c
NEWEST = "fir_~"

# firings

_INSERT = upsert(firings).on_conflict_do_nothing()
_PAGE = (
    select(firings)
    .where(_F.automation_id == bindparam("of_rule"), _F.firing_id < bindparam("before"))
    .order_by(_F.firing_id.desc())
    .limit(bindparam("count"))
)
_FIND = select(firings).where(_F.firing_id == bindparam("of_firing"))
_OLD = select(_F.firing_id).where(_F.at_ms < bindparam("before")).order_by(_F.at_ms).limit(bindparam("count"))
_NTH = (
    select(_F.firing_id)
    .where(_F.automation_id == bindparam("of_rule"))
    .order_by(_F.firing_id.desc())
    .limit(bindparam("count"))
    .offset(bindparam("skipped"))
)
_DELETE = delete(firings).where(_F.firing_id == bindparam("of_firing"))


def insert_firing(tx: Transaction, one: Firing) -> bool:
    """False where the rule has fired for this cause."""
    values = {
        "firing_id": one.firing_id,
        "automation_id": one.automation_id,
        "user_id": one.user_id,
        "cause_key": one.cause.key,
        "state": one.state,
        "cause": json.dumps(asdict(one.cause), ensure_ascii=False),
        "at_ms": one.at_ms,
        "depth": one.depth,
    }
    return tx.run(_INSERT, values) == 1


def page(tx: Transaction, automation_id: str, before: str, count: int) -> list[Firing]:
    """Newest first."""
    rows = tx.rows(_PAGE, {"of_rule": automation_id, "before": before, "count": count})
    return [_firing(row) for row in rows]


def find_firing(tx: Transaction, firing_id: str) -> Firing | None:
    row = tx.first(_FIND, {"of_firing": firing_id})
    return None if row is None else _firing(row)


def old(tx: Transaction, before_ms: int, count: int) -> list[str]:
    return [row["firing_id"] for row in tx.rows(_OLD, {"before": before_ms, "count": count})]


def beyond(tx: Transaction, automation_id: str, keep: int, count: int) -> list[str]:
    """Some of those that come after the newest `keep`."""
    given = {"of_rule": automation_id, "skipped": keep, "count": count}
    return [row["firing_id"] for row in tx.rows(_NTH, given)]


def delete_firings(tx: Transaction, firing_ids: Iterable[str]) -> None:
    for firing_id in firing_ids:
        tx.run(_DELETE_OF, {"of_firing": firing_id})
        tx.run(_DELETE, {"of_firing": firing_id})


def _firing(row: Row) -> Firing:
    return Firing(
        firing_id=row["firing_id"],
        automation_id=row["automation_id"],
        user_id=row["user_id"],
        state=FiringState(row["state"]),
        cause=Cause(**json.loads(row["cause"])),
        at_ms=int(row["at_ms"]),
        depth=int(row["depth"]),
    )


# what they do

_INSERT_ACTION = insert(actions)
_OF_FIRING = select(actions).where(_C.firing_id == bindparam("of_firing")).order_by(_C.position)
_QUEUED = (
    select(actions)
    .where(_C.ended_at_ms.is_(None), _C.state == ActionState.QUEUED.value)
    .order_by(_C.made_at_ms, _C.action_id)
    .limit(bindparam("count"))
)
_ASKED = (
    select(actions)
    .where(_C.ended_at_ms.is_(None), _C.state == ActionState.ASKED.value)
    .order_by(_C.made_at_ms, _C.action_id)
)
_ASKED_OF_RULE = _ASKED.where(_C.automation_id == bindparam("of_rule"))
_OPEN_OF_RULE = select(actions).where(_C.ended_at_ms.is_(None), _C.automation_id == bindparam("of_rule"))
_MOVE = (
    update(actions)
    .where(_C.action_id == bindparam("of_action"), _C.state == bindparam("from_state"))
    .values({name: bindparam(f"to_{name}") for name in ("state", "approval_id", "outcome", "ref", "ended_at_ms")})
)
_DEPTH = select(func.max(_C.depth).label("depth")).where(
    _C.device_id == bindparam("of_device"), _C.ended_at_ms >= bindparam("since"), _C.state == ActionState.DONE.value
)
_DELETE_OF = delete(actions).where(_C.firing_id == bindparam("of_firing"))


def insert_action(tx: Transaction, one: Action) -> None:
    tx.run(
        _INSERT_ACTION,
        {
            "action_id": one.action_id,
            "firing_id": one.firing_id,
            "automation_id": one.automation_id,
            "position": one.position,
            "kind": one.kind,
            "body": one.body,
            "state": one.state,
            "made_at_ms": one.made_at_ms,
            "depth": one.depth,
            "device_id": one.device_id,
            "approval_id": one.approval_id,
            "outcome": one.outcome,
            "ref": one.ref,
            "ended_at_ms": one.ended_at_ms,
        },
    )


def actions_of(tx: Transaction, firing_id: str) -> list[Action]:
    return [_action(row) for row in tx.rows(_OF_FIRING, {"of_firing": firing_id})]


def queued(tx: Transaction, count: int) -> list[Action]:
    """The longest waiting first."""
    return [_action(row) for row in tx.rows(_QUEUED, {"count": count})]


def asked(tx: Transaction) -> list[Action]:
    """Those that wait for somebody's leave. Of each rule there are at most as many as it has actions."""
    return [_action(row) for row in tx.rows(_ASKED)]


def asked_of_rule(tx: Transaction, automation_id: str) -> list[Action]:
    return [_action(row) for row in tx.rows(_ASKED_OF_RULE, {"of_rule": automation_id})]


def open_of_rule(tx: Transaction, automation_id: str) -> list[Action]:
    return [_action(row) for row in tx.rows(_OPEN_OF_RULE, {"of_rule": automation_id})]


def move(tx: Transaction, one: Action, from_state: ActionState) -> bool:
    """False where somebody else has: of several, one hears True."""
    given = {
        "of_action": one.action_id,
        "from_state": from_state,
        "to_state": one.state,
        "to_approval_id": one.approval_id,
        "to_outcome": one.outcome,
        "to_ref": one.ref,
        "to_ended_at_ms": one.ended_at_ms,
    }
    return tx.run(_MOVE, given) == 1


def depth_of(tx: Transaction, device_id: str, since_ms: int) -> int | None:
    """Of what a rule made this thing do since then, the longest chain; None where none did."""
    row = tx.first(_DEPTH, {"of_device": device_id, "since": since_ms})
    return None if row is None or row["depth"] is None else int(row["depth"])


def _action(row: Row) -> Action:
    ended_ms = row["ended_at_ms"]
    return Action(
        action_id=row["action_id"],
        firing_id=row["firing_id"],
        automation_id=row["automation_id"],
        position=int(row["position"]),
        kind=Kind(row["kind"]),
        body=row["body"],
        state=ActionState(row["state"]),
        made_at_ms=int(row["made_at_ms"]),
        depth=int(row["depth"]),
        device_id=row["device_id"],
        approval_id=row["approval_id"],
        outcome=row["outcome"],
        ref=row["ref"],
        ended_at_ms=None if ended_ms is None else int(ended_ms),
    )
