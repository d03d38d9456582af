"""The simple protocol, for clients that offer no subprotocol: frames and state machine. Pure. See docs/protocol.md §6.

Life, deadlines and close codes are those of `connection.Connection`; only the frames differ. There is no `hello`, no
resume and no reauth: the only credentials are API keys.
"""

from dataclasses import replace

import msgspec
from msgspec import Raw, Struct

from entobot.core.errors import Code, Problem
from entobot.core.principal import Principal
from entobot.gateway import wire
from entobot.gateway.connection import Connection, Effect, Execute, Pace, Send
from entobot.gateway.wire import Close, CommandFrame, MalformedFrame

COMMAND = "message.send"
MAX_WAITING = 64


class Auth(Struct, forbid_unknown_fields=True, frozen=True, tag_field="type", tag="auth"):
    """Exactly one of the two, both for an API key: `jwt_token` is what the first generation called it."""

    jwt_token: str | None = None
    api_key: str | None = None


class Message(Struct, forbid_unknown_fields=True, frozen=True, tag_field="type", tag="message"):
    content: str


class Ping(Struct, forbid_unknown_fields=True, frozen=True, tag_field="type", tag="ping"):
    pass


class _Kind(Struct):
    type: str = ""


_live_decoder = msgspec.json.Decoder(Message | Ping)
_auth_decoder = msgspec.json.Decoder(Auth)
_kind_decoder = msgspec.json.Decoder(_Kind)
_encode = msgspec.json.Encoder().encode

NO_PAIRING = "pairing over this protocol is not available in this version; use an API key"


def decode(payload: bytes) -> Message | Ping:
    """Raises MalformedFrame."""
    try:
        return _live_decoder.decode(payload)
    except wire.UNREADABLE as error:
        raise MalformedFrame(str(error)[:200]) from None


def decode_auth(payload: bytes) -> wire.Auth:
    """The credentials of the first frame. Raises MalformedFrame with a text that may be shown."""
    try:
        if _kind_decoder.decode(payload).type == "pair":
            raise MalformedFrame(NO_PAIRING)
        frame = _auth_decoder.decode(payload)
    except wire.UNREADABLE:
        raise MalformedFrame("the first frame must be auth") from None
    keys = [key for key in (frame.jwt_token, frame.api_key) if key]
    if len(keys) != 1:
        raise MalformedFrame("auth takes one of jwt_token and api_key")
    return wire.Auth(api_key=keys[0])


def auth_success(device_id: str, device_name: str) -> bytes:
    return _encode(
        {"type": "auth_success", "device_id": device_id, "device_name": device_name, "message": "Authenticated."}
    )


def ack(message_id: str) -> bytes:
    return _encode({"type": "ack", "message_id": message_id})


def message(content: str) -> bytes:
    return _encode({"type": "message", "content": content})


def error(text: str, code: str) -> bytes:
    return _encode({"type": "error", "message": text, "code": code})


class SimpleConnection(Connection):
    """As `Connection`; each `message` becomes an `Execute` of `message.send`, whose `data` lacks the conversation."""

    __slots__ = ("_waiting",)

    def __init__(self, *, now_s: float, pace: Pace) -> None:
        super().__init__(nonce="", now_s=now_s, pace=replace(pace, reauth_before_expiry_s=0.0))
        self._waiting = 0

    def _first_frame(self, payload: bytes) -> list[Effect]:
        try:
            auth = decode_auth(payload)
        except MalformedFrame as refusal:
            return self.end(Close.PROTOCOL_ERROR, str(refusal))
        return self._authenticate(auth)

    def _live_frame(self, payload: bytes) -> list[Effect]:
        try:
            frame = decode(payload)
        except MalformedFrame:
            return self.end(Close.PROTOCOL_ERROR, "not a frame of the simple protocol")
        if isinstance(frame, Ping):
            return [Send(wire.PONG)]
        return self._say(frame, self.principal)

    def _say(self, frame: Message, principal: Principal | None) -> list[Effect]:
        assert principal is not None
        if self._waiting >= MAX_WAITING:
            return [Send(error("Too many messages wait for their acknowledgement.", Code.RATE_LIMITED))]
        self._waiting += 1
        data = Raw(_encode({"content": frame.content}))
        return [Execute(CommandFrame("", COMMAND, data), principal)]

    def executed(self, frame: CommandFrame, answer: bytes) -> list[Effect]:
        self._waiting -= 1
        return super().executed(frame, answer)


def problem_error(problem: Problem) -> bytes:
    return error(problem.detail, problem.code)
