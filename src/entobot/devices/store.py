"""Tables of devices, their refresh families and tickets, and the DPoP proofs already spent."""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    bindparam,
    delete,
    insert,
    or_,
    select,
    update,
)

from entobot.core.permissions import parse_scopes, scope_text
from entobot.devices.model import Binding, Device, Family, Platform, Status, Ticket
from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.upsert import upsert

devices = Table(
    "devices",
    metadata,
    Column("device_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("platform", Text, nullable=False),
    Column("app_version", Text, nullable=False),
    Column("os_version", Text, nullable=False),
    Column("jwk", Text),
    Column("thumbprint", Text, unique=True),
    Column("scopes", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("last_seen_at_ms", BigInteger),
    Column("first_used_at_ms", BigInteger),
    Column("paired_by", Text, nullable=False),
    Column("confirmed_by_mode", Text, nullable=False),
    Column("bearer_alert_at_ms", BigInteger),
    Column("key_alert_at_ms", BigInteger),
    Column("changed_no", BigInteger, nullable=False, server_default="0"),
    Column("device_type", Text, nullable=False, server_default=""),
    Column("tags", Text, nullable=False, server_default=""),
    Index("ix_devices_user_id", "user_id"),
    Index("ix_devices_changed_no", "changed_no"),
)
families = Table(
    "device_families",
    metadata,
    Column("family_id", Text, primary_key=True),
    Column("device_id", Text, nullable=False, unique=True),
    Column("thumbprint", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("digest", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("rotated_at_ms", BigInteger, nullable=False),
)
proofs = Table(
    "device_proofs",
    metadata,
    Column("thumbprint", Text, primary_key=True),
    Column("jti", Text, primary_key=True),
    Column("expires_at_ms", BigInteger, nullable=False),
    Index("ix_device_proofs_expires_at_ms", "expires_at_ms"),
)
tickets = Table(
    "ws_tickets",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("device_id", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("thumbprint", Text),
    Column("credential_id", Text, nullable=False, server_default=""),
    Column("scopes", Text, nullable=False),
    Column("origin", Text),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("connection_ends_ms", BigInteger, nullable=False),
    Index("ix_ws_tickets_expires_at_ms", "expires_at_ms"),
)

key_rings = Table(
    "signing_key_rings",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)

# -- devices

_INSERT = upsert(devices).on_conflict_do_nothing()
_BY_ID = select(devices).where(devices.c.device_id == bindparam("device"))
_BINDING = select(devices.c.user_id, devices.c.thumbprint, devices.c.status, devices.c.epoch).where(
    devices.c.device_id == bindparam("device")
)
_BY_KEY = select(devices.c.device_id).where(devices.c.thumbprint == bindparam("key"))
_CHANGE = (
    update(devices)
    .where(devices.c.device_id == bindparam("device"), devices.c.epoch == bindparam("old_epoch"))
    .values(
        name=bindparam("to_name"),
        status=bindparam("to_status"),
        epoch=bindparam("to_epoch"),
        device_type=bindparam("to_type"),
        tags=bindparam("to_tags"),
    )
)
_LOOKED_AT = (
    select(devices.c.device_id)
    .where(
        devices.c.user_id == bindparam("user"),
        devices.c.status == bindparam("in_status"),
        devices.c.platform != bindparam("but_platform"),
    )
    .order_by(devices.c.last_seen_at_ms.desc())
    .limit(bindparam("count"))
)
_BOARDS = select(devices).where(
    devices.c.platform == bindparam("of_platform"), devices.c.status == bindparam("in_status")
)
_NOTE_CHANGE = update(devices).where(devices.c.device_id == bindparam("device")).values(changed_no=bindparam("number"))
_CHANGED = (
    select(devices.c.device_id, devices.c.changed_no)
    .where(devices.c.changed_no > bindparam("after"))
    .order_by(devices.c.changed_no)
    .limit(bindparam("count"))
)
_SEEN = (
    update(devices)
    .where(devices.c.device_id == bindparam("device"))
    .values(last_seen_at_ms=bindparam("now"), first_used_at_ms=bindparam("first_used"))
)
_ALERTS = {
    column.name: update(devices)
    .where(devices.c.device_id == bindparam("device"), or_(column.is_(None), column <= bindparam("not_since")))
    .values({column.name: bindparam("now")})
    for column in (devices.c.bearer_alert_at_ms, devices.c.key_alert_at_ms)
}
ALERT_BEARER = devices.c.bearer_alert_at_ms.name
ALERT_KEY = devices.c.key_alert_at_ms.name
ALERT_EVERY_MS = 60_000
MOST_LOOKED_AT = 300


def insert_device(tx: Transaction, device: Device) -> bool:
    """False when the id or the key is there already."""
    return (
        tx.run(
            _INSERT,
            {
                "device_id": device.device_id,
                "user_id": device.user_id,
                "name": device.name,
                "platform": device.platform,
                "app_version": device.app_version,
                "os_version": device.os_version,
                "jwk": device.jwk,
                "thumbprint": device.thumbprint,
                "scopes": scope_text(device.scopes),
                "status": device.status,
                "epoch": device.epoch,
                "created_at_ms": device.created_at_ms,
                "last_seen_at_ms": device.last_seen_at_ms,
                "first_used_at_ms": device.first_used_at_ms,
                "paired_by": device.paired_by,
                "confirmed_by_mode": device.confirmed_by_mode,
                "device_type": device.device_type,
                "tags": " ".join(device.tags),
            },
        )
        == 1
    )


def looked_at(tx: Transaction, user_id: str) -> list[str]:
    given = {"user": user_id, "in_status": Status.ACTIVE, "but_platform": Platform.IOT, "count": MOST_LOOKED_AT}
    return [row["device_id"] for row in tx.rows(_LOOKED_AT, given)]


def boards(tx: Transaction) -> list[Device]:
    rows = tx.rows(_BOARDS, {"of_platform": Platform.IOT, "in_status": Status.ACTIVE})
    return [to_device(row) for row in rows]


def find_device(tx: Transaction, device_id: str) -> Device | None:
    row = tx.first(_BY_ID, {"device": device_id})
    return None if row is None else to_device(row)


def find_binding(tx: Transaction, device_id: str) -> Binding | None:
    """Read with every command: nothing else of the row is looked at."""
    memory, key = tx.memory, ("binding", device_id)
    if memory is not None and (known := memory.get(key)) is not None:
        return known
    row = tx.first(_BINDING, {"device": device_id})
    if row is None:
        return None
    binding = Binding(row["user_id"], row["thumbprint"], Status(row["status"]), row["epoch"])
    if memory is not None:
        memory.put(key, binding)
    return binding


def is_key_known(tx: Transaction, thumbprint: str) -> bool:
    return tx.first(_BY_KEY, {"key": thumbprint}) is not None


def change_device(tx: Transaction, before: Device, after: Device) -> bool:
    """Store name, status, epoch, type and tags; False when the row has moved on since `before` was read."""
    given = {
        "device": before.device_id,
        "old_epoch": before.epoch,
        "to_name": after.name,
        "to_status": after.status,
        "to_epoch": after.epoch,
        "to_type": after.device_type,
        "to_tags": " ".join(after.tags),
    }
    if tx.memory is not None:
        tx.memory.forget(("binding", before.device_id))
    return tx.run(_CHANGE, given) == 1


def note_change(tx: Transaction, device_id: str, number: int) -> None:
    tx.run(_NOTE_CHANGE, {"device": device_id, "number": number})


def changed_after(tx: Transaction, number: int, count: int) -> list[tuple[int, str]]:
    """Devices whose epoch moved after the change with this number, in order."""
    rows = tx.rows(_CHANGED, {"after": number, "count": count})
    return [(int(row["changed_no"]), row["device_id"]) for row in rows]


def note_seen(tx: Transaction, device: Device, now_ms: int) -> None:
    first_used = now_ms if device.first_used_at_ms is None else device.first_used_at_ms
    tx.run(_SEEN, {"device": device.device_id, "now": now_ms, "first_used": first_used})


def claim_alert(tx: Transaction, device_id: str, alert: str, now_ms: int) -> bool:
    """Whether this alert about the device is due: at most one a minute, however often a thief tries."""
    given = {"device": device_id, "now": now_ms, "not_since": now_ms - ALERT_EVERY_MS}
    return tx.run(_ALERTS[alert], given) == 1


def to_device(row: Row) -> Device:
    last_seen, first_used = row["last_seen_at_ms"], row["first_used_at_ms"]
    return Device(
        device_id=row["device_id"],
        user_id=row["user_id"],
        name=row["name"],
        platform=Platform(row["platform"]),
        app_version=row["app_version"],
        os_version=row["os_version"],
        jwk=row["jwk"],
        thumbprint=row["thumbprint"],
        scopes=parse_scopes(row["scopes"]),
        status=Status(row["status"]),
        epoch=int(row["epoch"]),
        created_at_ms=int(row["created_at_ms"]),
        last_seen_at_ms=None if last_seen is None else int(last_seen),
        first_used_at_ms=None if first_used is None else int(first_used),
        paired_by=row["paired_by"],
        confirmed_by_mode=row["confirmed_by_mode"],
        device_type=row["device_type"],
        tags=tuple(row["tags"].split()),
    )


# -- refresh families

_INSERT_FAMILY = insert(families)
_FAMILY = select(families).where(families.c.family_id == bindparam("family"))
_ADVANCE = (
    update(families)
    .where(families.c.family_id == bindparam("family"), families.c.generation == bindparam("old_generation"))
    .values(generation=bindparam("to_generation"), digest=bindparam("to_digest"), rotated_at_ms=bindparam("now"))
)
_DELETE_FAMILY = delete(families).where(families.c.device_id == bindparam("device"))


def insert_family(tx: Transaction, family: Family) -> None:
    tx.run(
        _INSERT_FAMILY,
        {
            "family_id": family.family_id,
            "device_id": family.device_id,
            "thumbprint": family.thumbprint,
            "generation": family.generation,
            "digest": family.digest,
            "created_at_ms": family.created_at_ms,
            "rotated_at_ms": family.rotated_at_ms,
        },
    )


def find_family(tx: Transaction, family_id: str) -> Family | None:
    row = tx.first(_FAMILY, {"family": family_id})
    if row is None:
        return None
    return Family(
        family_id=row["family_id"],
        device_id=row["device_id"],
        thumbprint=row["thumbprint"],
        generation=int(row["generation"]),
        digest=row["digest"],
        created_at_ms=int(row["created_at_ms"]),
        rotated_at_ms=int(row["rotated_at_ms"]),
    )


def advance_family(tx: Transaction, family: Family, generation: int, digest: str, now_ms: int) -> bool:
    """Move to `generation`; False when somebody else has moved it."""
    given = {
        "family": family.family_id,
        "old_generation": family.generation,
        "to_generation": generation,
        "to_digest": digest,
        "now": now_ms,
    }
    return tx.run(_ADVANCE, given) == 1


_NOT_IDLE = (
    update(families).where(families.c.rotated_at_ms > bindparam("idle_since")).values(rotated_at_ms=bindparam("now"))
)
_VOID_EPOCHS = update(devices).values(epoch=devices.c.epoch + bindparam("epochs"))


def void_access_tokens(tx: Transaction, epochs: int) -> None:
    """Of all devices, by moving their epochs on."""
    tx.run(_VOID_EPOCHS, {"epochs": epochs})


def count_idleness_from(tx: Transaction, idle_since_ms: int, now_ms: int) -> None:
    """Families that were rotated after `idle_since_ms` are idle from `now_ms` on."""
    tx.run(_NOT_IDLE, {"idle_since": idle_since_ms, "now": now_ms})


def delete_family(tx: Transaction, device_id: str) -> bool:
    return tx.run(_DELETE_FAMILY, {"device": device_id}) > 0


# -- WebSocket tickets

_INSERT_TICKET = insert(tickets)
_TICKET = select(tickets).where(tickets.c.digest == bindparam("which"))
_DELETE_TICKET = delete(tickets).where(tickets.c.digest == bindparam("which"))
_PRUNE_TICKETS = delete(tickets).where(tickets.c.expires_at_ms <= bindparam("now"))


def insert_ticket(tx: Transaction, ticket: Ticket) -> None:
    tx.run(
        _INSERT_TICKET,
        {
            "digest": ticket.digest,
            "user_id": ticket.user_id,
            "device_id": ticket.device_id,
            "epoch": ticket.epoch,
            "thumbprint": ticket.thumbprint,
            "credential_id": ticket.credential_id,
            "scopes": scope_text(ticket.scopes),
            "origin": ticket.origin,
            "expires_at_ms": ticket.expires_at_ms,
            "connection_ends_ms": ticket.connection_ends_ms,
        },
    )


def find_ticket(tx: Transaction, digest: str) -> Ticket | None:
    row = tx.first(_TICKET, {"which": digest})
    if row is None:
        return None
    return Ticket(
        digest=row["digest"],
        user_id=row["user_id"],
        device_id=row["device_id"],
        epoch=int(row["epoch"]),
        thumbprint=row["thumbprint"],
        credential_id=row["credential_id"],
        scopes=parse_scopes(row["scopes"]),
        origin=row["origin"],
        expires_at_ms=int(row["expires_at_ms"]),
        connection_ends_ms=int(row["connection_ends_ms"]),
    )


def delete_ticket(tx: Transaction, digest: str) -> bool:
    """False when somebody else has used it up."""
    return tx.run(_DELETE_TICKET, {"which": digest}) == 1


def prune_tickets(tx: Transaction, now_ms: int) -> None:
    tx.run(_PRUNE_TICKETS, {"now": now_ms})


# -- spent proofs

_SPEND = upsert(proofs).on_conflict_do_nothing()
_PRUNE = delete(proofs).where(proofs.c.expires_at_ms < bindparam("now"))


def spend_proof(tx: Transaction, thumbprint: str, jti: str, expires_at_ms: int) -> bool:
    """False when this key has used this jti already."""
    return tx.run(_SPEND, {"thumbprint": thumbprint, "jti": jti, "expires_at_ms": expires_at_ms}) == 1


def prune_proofs(tx: Transaction, now_ms: int) -> None:
    tx.run(_PRUNE, {"now": now_ms})


# -- the signing keys that nodes share

THE_RING = 1
_RING = select(key_rings.c.version, key_rings.c.sealed).where(key_rings.c.id == THE_RING)
_INSERT_RING = insert(key_rings)
_REPLACE_RING = (
    update(key_rings)
    .where(key_rings.c.id == THE_RING, key_rings.c.version == bindparam("old_version"))
    .values(version=key_rings.c.version + 1, sealed=bindparam("new_sealed"))
)


def find_ring(tx: Transaction) -> tuple[int, bytes] | None:
    """Version and sealed keyring."""
    row = tx.first(_RING)
    return None if row is None else (int(row["version"]), bytes(row["sealed"]))


def insert_ring(tx: Transaction, sealed: bytes) -> None:
    tx.run(_INSERT_RING, {"id": THE_RING, "version": 1, "sealed": sealed})


def replace_ring(tx: Transaction, version: int, sealed: bytes) -> bool:
    """False when somebody else has replaced the one with this version."""
    return tx.run(_REPLACE_RING, {"old_version": version, "new_sealed": sealed}) == 1
