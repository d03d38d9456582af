"""Tables of pairing: one row an invite with its claim, and the failures of the last minutes."""

from collections.abc import Mapping

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
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

from entobot.core.permissions import parse_scopes, scope_text
from entobot.devices.model import Platform
from entobot.pairing.model import (
    Claim,
    Confirm,
    DeviceInfo,
    Invite,
    Inviter,
    Kind,
    Reason,
    State,
)
from entobot.storage.database import Row, Transaction, metadata

BIG = BigInteger().with_variant(Integer, "sqlite")
MAX_LISTED = 200

invites = Table(
    "pairing_invites",
    metadata,
    Column("invite_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("inviter_user_id", Text, nullable=False),
    Column("inviter_device_id", Text),
    Column("label", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("confirm", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("deadline_ms", BigInteger, nullable=False),
    Column("secret_digest", Text),
    Column("code_mark", Text),
    Column("bad_claims", Integer, nullable=False),
    Column("wrong_codes", Integer, nullable=False),
    Column("is_contested", Integer, nullable=False),
    Column("claim_id", Text),
    Column("public_jwk", Text),
    Column("thumbprint", Text),
    Column("device_name", Text),
    Column("platform", Text),
    Column("app_version", Text),
    Column("os_version", Text),
    Column("address", Text),
    Column("claimed_at_ms", BigInteger),
    Column("device_id", Text),
    Column("confirmed_at_ms", BigInteger),
    Column("ended_at_ms", BigInteger),
    Column("reason", Text),
    Column("allow_bearer", BigInteger),
    Column("sends", BigInteger),
    Column("sent_at_ms", BigInteger),
    UniqueConstraint("claim_id", name="uq_pairing_invites_claim"),
)
failures = Table(
    "pairing_failures",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("address_key", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)
"""Never more rows than the limit on all failures, so it needs no index."""
_MUTABLE = (
    "state",
    "scopes",
    "deadline_ms",
    "secret_digest",
    "code_mark",
    "bad_claims",
    "wrong_codes",
    "is_contested",
    "claim_id",
    "public_jwk",
    "thumbprint",
    "device_name",
    "platform",
    "app_version",
    "os_version",
    "address",
    "claimed_at_ms",
    "device_id",
    "confirmed_at_ms",
    "ended_at_ms",
    "reason",
    "sends",
    "sent_at_ms",
)
_SEEN = (
    invites.c.invite_id == bindparam("which"),
    invites.c.state == bindparam("seen_state"),
    invites.c.bad_claims == bindparam("seen_bad_claims"),
    invites.c.wrong_codes == bindparam("seen_wrong_codes"),
    invites.c.is_contested == bindparam("seen_contested"),
    func.coalesce(invites.c.sends, 0) == bindparam("seen_sends"),
)
_NEW: dict[str, object] = {name: bindparam(f"new_{name}") for name in _MUTABLE}
_INSERT = insert(invites)
_CHANGE_IN_TIME = update(invites).where(*_SEEN, invites.c.deadline_ms > bindparam("now")).values(_NEW)
_CHANGE_OVERDUE = update(invites).where(*_SEEN, invites.c.deadline_ms <= bindparam("now")).values(_NEW)
_CONTEST = (
    update(invites).where(invites.c.invite_id == bindparam("which"), invites.c.is_contested == 0).values(is_contested=1)
)
_BY_ID = select(invites).where(invites.c.invite_id == bindparam("which"))
_BY_CLAIM = select(invites).where(invites.c.claim_id == bindparam("claim"))
_BY_MARK = (
    select(invites)
    .where(invites.c.code_mark == bindparam("mark"))
    .order_by(invites.c.created_at_ms.desc(), invites.c.invite_id.desc())
    .limit(1)
)
_LIST = select(invites).order_by(invites.c.created_at_ms.desc(), invites.c.invite_id.desc())
_LIST_ALL = _LIST.limit(MAX_LISTED)
_LIST_OF = _LIST.where(
    (invites.c.user_id == bindparam("user")) | (invites.c.inviter_user_id == bindparam("user"))
).limit(MAX_LISTED)
_OPEN = select(invites).where(invites.c.state == State.OPEN.value, invites.c.deadline_ms > bindparam("now"))
_OVERDUE = select(invites).where(invites.c.ended_at_ms.is_(None), invites.c.deadline_ms <= bindparam("now"))
_UNENDED = select(invites).where(invites.c.ended_at_ms.is_(None))
_PURGE_INVITES = delete(invites).where(invites.c.ended_at_ms < bindparam("before"))
_INSERT_FAILURE = insert(failures)
_FAILURES = (
    select(failures.c.address_key, failures.c.at_ms)
    .where(failures.c.at_ms > bindparam("since"))
    .order_by(failures.c.at_ms)
)
_PURGE_FAILURES = delete(failures).where(failures.c.at_ms <= bindparam("before"))


def insert_invite(tx: Transaction, invite: Invite) -> None:
    tx.run(_INSERT, _values(invite))


def change(tx: Transaction, seen: Invite, after: Invite, now_ms: int) -> bool:
    """Put `after` in the place of `seen`, if the row still stands as seen and, unless it expires, is in time.

    One conditional UPDATE: False means that somebody else was first.
    """
    statement = _CHANGE_OVERDUE if after.state is State.EXPIRED else _CHANGE_IN_TIME
    values = _values(after)
    parameters: dict[str, object] = {f"new_{name}": values[name] for name in _MUTABLE}
    parameters |= {
        "which": seen.invite_id,
        "seen_state": seen.state.value,
        "seen_bad_claims": seen.bad_claims,
        "seen_wrong_codes": seen.wrong_codes,
        "seen_contested": int(seen.is_contested),
        "seen_sends": seen.sends,
        "now": now_ms,
    }
    return tx.run(statement, parameters) == 1


def contest(tx: Transaction, invite_id: str) -> bool:
    """Note that a second device tried. True the first time only."""
    return tx.run(_CONTEST, {"which": invite_id}) == 1


def find_invite(tx: Transaction, invite_id: str) -> Invite | None:
    return _invite(tx.first(_BY_ID, {"which": invite_id}))


def find_by_claim(tx: Transaction, claim_id: str) -> Invite | None:
    return _invite(tx.first(_BY_CLAIM, {"claim": claim_id}))


def find_by_mark(tx: Transaction, code_mark: str) -> Invite | None:
    """The newest invite of that code, in whatever state."""
    return _invite(tx.first(_BY_MARK, {"mark": code_mark}))


def list_invites(tx: Transaction, of_user_id: str | None) -> list[Invite]:
    """Newest first; those a user made or that are for them, or (None) everybody's."""
    rows = tx.rows(_LIST_ALL) if of_user_id is None else tx.rows(_LIST_OF, {"user": of_user_id})
    return [_known(row) for row in rows]


def open_invites(tx: Transaction, now_ms: int) -> list[Invite]:
    return [_known(row) for row in tx.rows(_OPEN, {"now": now_ms})]


def overdue_invites(tx: Transaction, now_ms: int) -> list[Invite]:
    return [_known(row) for row in tx.rows(_OVERDUE, {"now": now_ms})]


def unended_invites(tx: Transaction) -> list[Invite]:
    return [_known(row) for row in tx.rows(_UNENDED)]


def purge_invites(tx: Transaction, ended_before_ms: int) -> None:
    tx.run(_PURGE_INVITES, {"before": ended_before_ms})


def add_failure(tx: Transaction, address_key: str, now_ms: int, window_start_ms: int) -> None:
    """Count a failure and forget those that have left the window."""
    tx.run(_PURGE_FAILURES, {"before": window_start_ms})
    tx.run(_INSERT_FAILURE, {"address_key": address_key, "at_ms": now_ms})


def failures_since(tx: Transaction, since_ms: int) -> list[tuple[str, int]]:
    """Address keys and times after `since_ms`, oldest first."""
    return [(row["address_key"], int(row["at_ms"])) for row in tx.rows(_FAILURES, {"since": since_ms})]


def _values(invite: Invite) -> Mapping[str, object]:
    claim = invite.claim
    return {
        "invite_id": invite.invite_id,
        "kind": invite.kind.value,
        "state": invite.state.value,
        "user_id": invite.user_id,
        "inviter_user_id": invite.inviter.user_id,
        "inviter_device_id": invite.inviter.device_id,
        "label": invite.label,
        "scopes": scope_text(invite.scopes),
        "confirm": invite.confirm.value,
        "created_at_ms": invite.created_at_ms,
        "deadline_ms": invite.deadline_ms,
        "secret_digest": invite.secret_digest,
        "code_mark": invite.code_mark,
        "bad_claims": invite.bad_claims,
        "wrong_codes": invite.wrong_codes,
        "is_contested": int(invite.is_contested),
        "claim_id": claim and claim.claim_id,
        "public_jwk": claim and claim.public_jwk,
        "thumbprint": claim and claim.thumbprint,
        "device_name": claim and claim.device.device_name,
        "platform": claim and claim.device.platform.value,
        "app_version": claim and claim.device.app_version,
        "os_version": claim and claim.device.os_version,
        "address": claim and claim.address,
        "claimed_at_ms": claim and claim.claimed_at_ms,
        "device_id": invite.device_id,
        "confirmed_at_ms": invite.confirmed_at_ms,
        "ended_at_ms": invite.ended_at_ms,
        "reason": invite.reason and invite.reason.value,
        "allow_bearer": int(invite.allow_bearer),
        "sends": invite.sends,
        "sent_at_ms": invite.sent_at_ms,
    }


def _invite(row: Row | None) -> Invite | None:
    return None if row is None else _known(row)


def _known(row: Row) -> Invite:
    return Invite(
        invite_id=row["invite_id"],
        kind=Kind(row["kind"]),
        state=State(row["state"]),
        user_id=row["user_id"],
        inviter=Inviter(row["inviter_user_id"], row["inviter_device_id"]),
        label=row["label"],
        scopes=parse_scopes(row["scopes"]),
        confirm=Confirm(row["confirm"]),
        created_at_ms=int(row["created_at_ms"]),
        deadline_ms=int(row["deadline_ms"]),
        secret_digest=row["secret_digest"],
        code_mark=row["code_mark"],
        bad_claims=int(row["bad_claims"]),
        wrong_codes=int(row["wrong_codes"]),
        is_contested=bool(row["is_contested"]),
        claim=_claim(row),
        device_id=row["device_id"],
        confirmed_at_ms=row["confirmed_at_ms"],
        ended_at_ms=row["ended_at_ms"],
        reason=None if row["reason"] is None else Reason(row["reason"]),
        allow_bearer=bool(row["allow_bearer"]),
        sends=int(row["sends"] or 0),
        sent_at_ms=row["sent_at_ms"],
    )


def _claim(row: Row) -> Claim | None:
    if row["claim_id"] is None:
        return None
    return Claim(
        claim_id=row["claim_id"],
        public_jwk=row["public_jwk"],
        thumbprint=row["thumbprint"],
        device=DeviceInfo(row["device_name"], Platform(row["platform"]), row["app_version"], row["os_version"]),
        address=row["address"],
        claimed_at_ms=int(row["claimed_at_ms"]),
    )
