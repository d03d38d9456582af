"""What a session keeps, and what is said of a message. Pure."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

import msgspec
from msgspec import Struct

from entobot.mqtt.packets import NOTHING, Properties, Will
from entobot.mqtt.topics import scope_of

LAST_PACKET_ID = 65_535
NEVER_EXPIRES = 0xFFFF_FFFF
"""A session expiry interval that means "never" (MQTT 5 §3.1.2.11.2)."""


class Withheld(StrEnum):
    """Why a session that subscribed is not brought a message: it may not read it."""

    ARRIVED = "arrived"
    """When it came: a filter with wildcards reaches more than its device may read."""
    RETAINED = "retained"
    """When it subscribed."""
    WAITED = "waited"
    """When it was to be sent: the rules changed since it was queued."""


class Action(StrEnum):
    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"


class Stage(IntEnum):
    """How far a message is on its way to a session."""

    WAITING = 0
    RELEASED = 1
    """QoS 2: the receiver has it (PUBREC), and only its number is still held."""


class Message(Struct, frozen=True, gc=False):
    """What somebody published. `device_id` is "" where the gateway itself did."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    device_id: str
    user_id: str
    at_ms: int
    expires_at_ms: int | None = None
    properties: Properties = NOTHING

    @property
    def scope(self) -> str:
        return scope_of(self.topic)

    def is_over(self, now_ms: int) -> bool:
        return self.expires_at_ms is not None and self.expires_at_ms <= now_ms


class Delivery(Struct, frozen=True, gc=False):
    """A message on its way to one session. `seq` counts the session's from 1, without a hole when they are made, and
    gives the packet identifier: so a repeat after a crash bears the number that the first one had. 0: QoS 0, not kept.
    """

    seq: int
    message: Message
    qos: int
    retain: bool = False
    identifiers: tuple[int, ...] = ()
    stage: Stage = Stage.WAITING
    is_repeat: bool = False
    is_withdrawn: bool = False
    """The session may not have it any more: it counts as delivered."""

    @property
    def packet_id(self) -> int:
        return (self.seq - 1) % LAST_PACKET_ID + 1


class Head(Struct, frozen=True, gc=False):
    """How far a session is: who holds it, and the newest of its queue."""

    session: int
    connection: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session's row. `node` is where it is connected, None where it is not; `connection` counts its connections."""

    session: int
    device_id: str
    client_id: str
    user_id: str
    epoch: int
    credential_id: str
    node: str | None
    connection: int
    last_seq: int
    sent_seq: int
    expiry_s: int
    expires_at_ms: int | None
    will: Will | None
    will_at_ms: int | None


@dataclass(frozen=True, slots=True)
class StoredSubscription:
    """One filter of one session, and where that session is."""

    session: int
    device_id: str
    credential_id: str
    node: str | None
    last_seq: int
    share: str
    filter: str
    qos: int
    no_local: bool
    retain_as_published: bool
    identifier: int | None


@dataclass(frozen=True, slots=True)
class RetainedMessage:
    topic: str
    message: int
    qos: int
    expires_at_ms: int | None


def pack_properties(found: Properties) -> bytes | None:
    return None if found == NOTHING else msgspec.msgpack.encode(found)


def unpack_properties(data: bytes | None) -> Properties:
    return NOTHING if data is None else _properties.decode(data)


def pack_will(will: Will | None) -> bytes | None:
    return None if will is None else msgspec.msgpack.encode(will)


def unpack_will(data: bytes | None) -> Will | None:
    return None if data is None else _will.decode(data)


_properties = msgspec.msgpack.Decoder(Properties)
_will = msgspec.msgpack.Decoder(Will)


def ends_at_ms(expiry_s: int, now_ms: int) -> int | None:
    """When a session that is not connected ends; None where it never does."""
    return None if expiry_s == NEVER_EXPIRES else now_ms + expiry_s * 1000
