"""Frames of the `entobot.v1` subprotocol: shapes, codec, close codes. Pure. See docs/protocol.md §5."""

import json
import re
from enum import IntEnum
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from entobot.core.errors import Problem
from entobot.core.permissions import Scope, scope_text
from entobot.core.unreadable import UNREADABLE

SUBPROTOCOL = "entobot.v1"
MAX_FRAME_BYTES = 256 * 1024
MAX_FRAME_BYTES_BEFORE_AUTHENTICATION = 8 * 1024


class Close(IntEnum):
    """Why the gateway ends a connection. 4000-4499: come back; 4500-4999: do not."""

    DRAINING = 4000
    SILENCE = 4001
    SLOW_CONSUMER = 4002
    TOKEN_EXPIRED = 4003
    RATE_LIMITED = 4004
    BAD_CREDENTIALS = 4500
    REVOKED = 4501
    SUSPENDED = 4502
    PROTOCOL_ERROR = 4503
    TOO_MANY_CONNECTIONS = 4504
    FRAME_TOO_LARGE = 4505


class Resume(Struct, forbid_unknown_fields=True, frozen=True):
    stream: Annotated[str, Meta(max_length=64)]
    after: Annotated[int, Meta(ge=0, le=2**53)]


class Auth(Struct, forbid_unknown_fields=True, frozen=True, tag_field="type", tag="auth"):
    """Exactly one of: token and proof, api_key, ticket."""

    token: str | None = None
    proof: str | None = None
    api_key: str | None = None
    ticket: str | None = None
    resume: Resume | None = None

    @property
    def is_well_formed(self) -> bool:
        ways = ((self.token, self.proof), (self.api_key,), (self.ticket,))
        used = [way for way in ways if any(part is not None for part in way)]
        return len(used) == 1 and all(used[0])


class CommandFrame(Struct, forbid_unknown_fields=True, frozen=True, tag_field="type", tag="command"):
    id: Annotated[str, Meta(min_length=26, max_length=26)]
    name: Annotated[str, Meta(max_length=64)]
    data: Raw = Raw(b"{}")


class Ack(Struct, forbid_unknown_fields=True, frozen=True, tag_field="type", tag="ack"):
    seq: Annotated[int, Meta(ge=0, le=2**53)]


class Ping(Struct, forbid_unknown_fields=True, frozen=True, tag_field="type", tag="ping"):
    pass


ClientFrame = Auth | CommandFrame | Ack | Ping

_decoder = msgspec.json.Decoder(ClientFrame)
_first_decoder = msgspec.json.Decoder(Auth)
_encode = msgspec.json.Encoder().encode


class MalformedFrame(Exception):  # noqa: N818  reads as what happened
    """The text is not a frame of the protocol."""


def decode(payload: bytes) -> ClientFrame:
    """One frame of an authenticated client. Raises MalformedFrame."""
    try:
        frame: ClientFrame = _decoder.decode(payload)
    except UNREADABLE as error:
        raise MalformedFrame(str(error)[:200]) from None
    if not (isinstance(frame, Ack) and payload.count(b":") == ACK_MEMBERS) and _may_repeat(payload):
        refuse_repeated(payload)
    return frame


ACK_MEMBERS = 2
"""It has no texts of its own: more colons are more members."""
_NAME = re.compile(rb'"([^"\\]*)"[ \t\r\n]*:')


def _may_repeat(payload: bytes) -> bool:
    """False when no object in it can name a member twice. A name spelled with escapes is not compared here."""
    if b"\\" in payload:
        return True
    names = _NAME.findall(payload)
    return len(set(names)) != len(names)


def refuse_repeated(payload: bytes) -> None:
    """Raise MalformedFrame when an object names a member twice: msgspec takes the last, another reader the first."""
    try:
        json.loads(payload, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise MalformedFrame(str(error)[:200]) from None


def _once(members: list[tuple[str, object]]) -> None:
    if len({name for name, _ in members}) != len(members):
        raise ValueError("a member is named twice")


def decode_auth(payload: bytes) -> Auth:
    """The only frame that an unauthenticated client may send. Raises MalformedFrame."""
    try:
        frame = _first_decoder.decode(payload)
        refuse_repeated(payload)
    except UNREADABLE as error:
        raise MalformedFrame(str(error)[:200]) from None
    if not frame.is_well_formed:
        raise MalformedFrame("auth takes token and proof, or api_key, or ticket")
    return frame


# -- what the gateway sends

PONG = b'{"type":"pong"}'


def hello(*, nonce: str, server: str, now_ms: int, heartbeat_s: int) -> bytes:
    return _encode({"type": "hello", "nonce": nonce, "server": server, "ts": now_ms, "heartbeat_s": heartbeat_s})


def ready(*, device_id: str, user_id: str, scopes: frozenset[Scope], stream: str, seq: int, expires_in_s: int) -> bytes:
    return _encode(
        {
            "type": "ready",
            "device_id": device_id,
            "user_id": user_id,
            "scopes": scope_text(scopes).split(),
            "stream": stream,
            "seq": seq,
            "expires_in": expires_in_s,
        }
    )


def reauth(nonce: str) -> bytes:
    return _encode({"type": "reauth", "nonce": nonce})


def reauthed(expires_in_s: int) -> bytes:
    return _encode({"type": "reauthed", "expires_in": expires_in_s})


def reset(reason: str) -> bytes:
    return _encode({"type": "reset", "reason": reason})


def resume_done(seq: int) -> bytes:
    return _encode({"type": "resume_done", "seq": seq})


def result(command_id: str, data: bytes) -> bytes:
    """`data` is JSON text, `command_id` a ULID."""
    return b'{"type":"result","id":"%s","data":%s}' % (command_id.encode("ascii"), data)


class _Error(Struct, tag_field="type", tag="error"):
    code: str
    message: str
    retry: bool
    id: str | UnsetType = UNSET
    retry_after_s: float | UnsetType = UNSET


def error(problem: Problem, command_id: str | None = None) -> bytes:
    return _encode(
        _Error(
            problem.code,
            problem.detail,
            problem.retry,
            UNSET if command_id is None else command_id,
            UNSET if problem.retry_after_s is None else problem.retry_after_s,
        )
    )


class _Event(Struct, tag_field="type", tag="event", omit_defaults=True):
    ts: int
    topic: str
    event: Raw
    seq: int | UnsetType = UNSET


def event(*, at_ms: int, topic: str, event_json: str, seq: int | None = None) -> bytes:
    """`event_json` is the JSON text of the event object; `seq` only for durable events."""
    return _encode(_Event(at_ms, topic, Raw(event_json.encode()), UNSET if seq is None else seq))


def snapshots(seq: int, state: dict[str, list[object] | int], *, max_bytes: int) -> list[bytes]:
    """A snapshot as frames of at most `max_bytes` where rows allow; all but the last say `more:true`.

    `state` maps a member's name to its rows, or to a number, which stands in every frame.
    """
    numbers = {name: value for name, value in state.items() if isinstance(value, int)}
    names = [name for name, value in state.items() if not isinstance(value, int)]
    pages: list[dict[str, list[Raw]]] = [{name: [] for name in names}]
    used = 0
    for name in names:
        rows = state[name]
        assert not isinstance(rows, int)
        for row in rows:
            text = _encode(row)
            if used and used + len(text) > max_bytes - 1024:
                pages.append({name: [] for name in names})
                used = 0
            pages[-1][name].append(Raw(text))
            used += len(text) + 1
    head = {"type": "snapshot", "seq": seq}
    last = len(pages) - 1
    return [_encode(head | page | numbers | ({} if n == last else {"more": True})) for n, page in enumerate(pages)]


def command_answer(command_id: str, data: bytes) -> bytes:
    """The HTTP answer to a command: the result frame without its type."""
    return _encode({"id": command_id, "data": Raw(data)})
