"""Properties of MQTT 5 (§2.2.2): which there are, in which packets, and as which bytes. Pure."""

from enum import Enum, auto
from typing import Any, NamedTuple

import msgspec

from entobot.mqtt import fields
from entobot.mqtt.fields import Reader
from entobot.mqtt.packets import NOTHING, Malformed, Properties, Reason


class Where(Enum):
    """Packets, and the will, which has properties of its own."""

    AUTH = auto()
    CONNACK = auto()
    CONNECT = auto()
    DISCONNECT = auto()
    PUBACK = auto()
    """And PUBREC, PUBREL, PUBCOMP."""
    PUBLISH = auto()
    SUBACK = auto()
    SUBSCRIBE = auto()
    UNSUBACK = auto()
    UNSUBSCRIBE = auto()
    WILL = auto()


class _Kind(Enum):
    BYTE = auto()
    TWO = auto()
    FOUR = auto()
    VARIABLE = auto()
    TEXT = auto()
    BINARY = auto()
    PAIR = auto()


class _Property(NamedTuple):
    field: str
    kind: _Kind
    where: frozenset[Where]


_REPEATED = frozenset({"subscription_ids", "user"})
_FLAGS = frozenset(
    {
        "maximum_qos",
        "payload_format",
        "request_problem",
        "request_response",
        "retain_available",
        "shared_available",
        "subscription_ids_available",
        "wildcards_available",
    }
)
_NEVER_ZERO = frozenset({"max_packet_bytes", "receive_maximum", "subscription_ids"})


def _in(*where: Where) -> frozenset[Where]:
    return frozenset(where)


_SAID = _in(Where.PUBLISH, Where.WILL)
_REASONED = _in(Where.AUTH, Where.CONNACK, Where.DISCONNECT, Where.PUBACK, Where.SUBACK, Where.UNSUBACK)
_BOTH_WAYS = _in(Where.CONNECT, Where.CONNACK)

PROPERTIES: dict[int, _Property] = {
    0x01: _Property("payload_format", _Kind.BYTE, _SAID),
    0x02: _Property("message_expiry_s", _Kind.FOUR, _SAID),
    0x03: _Property("content_type", _Kind.TEXT, _SAID),
    0x08: _Property("response_topic", _Kind.TEXT, _SAID),
    0x09: _Property("correlation", _Kind.BINARY, _SAID),
    0x0B: _Property("subscription_ids", _Kind.VARIABLE, _in(Where.PUBLISH, Where.SUBSCRIBE)),
    0x11: _Property("session_expiry_s", _Kind.FOUR, _in(Where.CONNECT, Where.CONNACK, Where.DISCONNECT)),
    0x12: _Property("assigned_client_id", _Kind.TEXT, _in(Where.CONNACK)),
    0x13: _Property("server_keep_alive_s", _Kind.TWO, _in(Where.CONNACK)),
    0x15: _Property("authentication_method", _Kind.TEXT, _in(Where.CONNECT, Where.CONNACK, Where.AUTH)),
    0x16: _Property("authentication_data", _Kind.BINARY, _in(Where.CONNECT, Where.CONNACK, Where.AUTH)),
    0x17: _Property("request_problem", _Kind.BYTE, _in(Where.CONNECT)),
    0x18: _Property("will_delay_s", _Kind.FOUR, _in(Where.WILL)),
    0x19: _Property("request_response", _Kind.BYTE, _in(Where.CONNECT)),
    0x1A: _Property("response_information", _Kind.TEXT, _in(Where.CONNACK)),
    0x1C: _Property("server_reference", _Kind.TEXT, _in(Where.CONNACK, Where.DISCONNECT)),
    0x1F: _Property("reason_string", _Kind.TEXT, _REASONED),
    0x21: _Property("receive_maximum", _Kind.TWO, _BOTH_WAYS),
    0x22: _Property("topic_alias_maximum", _Kind.TWO, _BOTH_WAYS),
    0x23: _Property("topic_alias", _Kind.TWO, _in(Where.PUBLISH)),
    0x24: _Property("maximum_qos", _Kind.BYTE, _in(Where.CONNACK)),
    0x25: _Property("retain_available", _Kind.BYTE, _in(Where.CONNACK)),
    0x26: _Property("user", _Kind.PAIR, frozenset(Where)),
    0x27: _Property("max_packet_bytes", _Kind.FOUR, _BOTH_WAYS),
    0x28: _Property("wildcards_available", _Kind.BYTE, _in(Where.CONNACK)),
    0x29: _Property("subscription_ids_available", _Kind.BYTE, _in(Where.CONNACK)),
    0x2A: _Property("shared_available", _Kind.BYTE, _in(Where.CONNACK)),
}


def read(reader: Reader, where: Where) -> Properties:
    """Raises Malformed for what is unknown, is not of this packet, comes twice, or has a value that it may not have."""
    size = reader.variable()
    if not size:
        return NOTHING
    part, found = reader.part(size), dict[str, Any]()
    while part.left:
        name, kind, places = _known(part.variable())
        if where not in places:
            raise Malformed(Reason.MALFORMED_PACKET, f"{name} is no property of this packet")
        value = _read_value(part, kind)
        _check(name, value, where)
        if name in _REPEATED:
            if where is Where.SUBSCRIBE and name == "subscription_ids" and name in found:
                raise Malformed(Reason.PROTOCOL_ERROR, f"{name} comes twice")
            found[name] = (*found.get(name, ()), value)
        elif name in found:
            raise Malformed(Reason.PROTOCOL_ERROR, f"{name} comes twice")
        else:
            found[name] = value
    return msgspec.structs.replace(NOTHING, **found)


def _known(identifier: int) -> _Property:
    known = PROPERTIES.get(identifier)
    if known is None:
        raise Malformed(Reason.MALFORMED_PACKET, f"there is no property {identifier:#04x}")
    return known


def _read_value(part: Reader, kind: _Kind) -> object:  # noqa: PLR0911  one a kind
    match kind:
        case _Kind.BYTE:
            return part.byte()
        case _Kind.TWO:
            return part.two()
        case _Kind.FOUR:
            return part.four()
        case _Kind.VARIABLE:
            return part.variable()
        case _Kind.TEXT:
            return part.text()
        case _Kind.BINARY:
            return part.binary()
        case _Kind.PAIR:
            return part.text(), part.text()


def _check(name: str, value: object, where: Where) -> None:
    if name in _FLAGS and value not in (0, 1):
        raise Malformed(Reason.PROTOCOL_ERROR, f"{name} is 0 or 1")
    if name in _NEVER_ZERO and value == 0:
        raise Malformed(Reason.PROTOCOL_ERROR, f"{name} is never 0")
    if name == "topic_alias" and value == 0:
        raise Malformed(Reason.TOPIC_ALIAS_INVALID, "a topic alias is never 0")
    if name == "response_topic" and where is not Where.CONNACK:
        text = str(value)
        if not text or "#" in text or "+" in text:
            raise Malformed(Reason.PROTOCOL_ERROR, "a response topic is a topic name")


def write(properties: Properties, where: Where) -> bytes:
    """Raises ValueError for one that is not of this packet."""
    if properties is NOTHING:
        return b"\0"
    out = bytearray()
    for identifier, (name, kind, places) in PROPERTIES.items():
        value = getattr(properties, name)
        if value is None or value == ():
            continue
        if where not in places:
            raise ValueError(f"{name} is no property of {where}")
        for one in value if name in _REPEATED else (value,):
            out.append(identifier)
            out += _write_value(one, kind)
    return fields.variable(len(out)) + bytes(out)


def _write_value(value: Any, kind: _Kind) -> bytes:  # noqa: PLR0911  one a kind
    match kind:
        case _Kind.BYTE:
            return bytes((value,))
        case _Kind.TWO:
            return int(value).to_bytes(2, "big")
        case _Kind.FOUR:
            return int(value).to_bytes(4, "big")
        case _Kind.VARIABLE:
            return fields.variable(value)
        case _Kind.TEXT:
            return fields.text(value)
        case _Kind.BINARY:
            return fields.binary(value)
        case _Kind.PAIR:
            return fields.text(value[0]) + fields.text(value[1])
