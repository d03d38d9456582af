"""The simple protocol, for clients that offer no subprotocol: frames and state machine. Pure. See docs/protocol.md §6.

Life, deadlines and close codes are those of `connection.Connection`; only the frames differ. There is no `hello`, no
resume and no reauth: the only credentials are API keys. `pair` claims an invite for one.
"""

from dataclasses import replace
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from entobot.core.errors import Code, Problem
from entobot.core.principal import Principal
from entobot.gateway import wire
from entobot.gateway.connection import Connection, Effect, Execute, Pace, Pair, Send, State
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


class _DeviceInfo(Struct, forbid_unknown_fields=True, frozen=True):
    device_name: Annotated[str, Meta(max_length=256)]
    platform: Annotated[str, Meta(max_length=16)] = "iot"
    app_version: Annotated[str, Meta(max_length=256)] = ""
    os_version: Annotated[str, Meta(max_length=256)] = ""


class PairFrame(Struct, forbid_unknown_fields=True, frozen=True, tag_field="type", tag="pair"):
    """`session_id` is the invite, `temp_token` its secret: what the first generation called them."""

    session_id: Annotated[str, Meta(max_length=64)]
    temp_token: Annotated[str, Meta(max_length=128)]
    device_info: _DeviceInfo


_live_decoder = msgspec.json.Decoder(Message | Ping)
_auth_decoder = msgspec.json.Decoder(Auth)
_pair_decoder = msgspec.json.Decoder(PairFrame)
_ping_decoder = msgspec.json.Decoder(Ping)
_kind_decoder = msgspec.json.Decoder(_Kind)
_encode = msgspec.json.Encoder().encode

CLAIM_S = 30.0
"""What the store may take to answer a claim."""
AFTER_DEADLINE_S = 10.0
"""The operator's time is the store's to end; this is for a store that says nothing."""
MAX_PINGS_WHILE_PAIRING = 100


def decode(payload: bytes) -> Message | Ping:
    """Raises MalformedFrame."""
    try:
        return _live_decoder.decode(payload)
    except wire.UNREADABLE as error:
        raise MalformedFrame(str(error)[:200]) from None


def decode_auth(payload: bytes) -> wire.Auth:
    """The credentials of the first frame. Raises MalformedFrame with a text that may be shown."""
    try:
        frame = _auth_decoder.decode(payload)
    except wire.UNREADABLE:
        raise MalformedFrame("the first frame must be auth or pair") from None
    keys = [key for key in (frame.jwt_token, frame.api_key) if key]
    if len(keys) != 1:
        raise MalformedFrame("auth takes one of jwt_token and api_key")
    return wire.Auth(api_key=keys[0])


def decode_pair(payload: bytes) -> Pair | None:
    """The claim of the first frame; None when it is no `pair`. Raises MalformedFrame."""
    try:
        if _kind_decoder.decode(payload).type != "pair":
            return None
        frame = _pair_decoder.decode(payload)
    except wire.UNREADABLE as error:
        raise MalformedFrame(f"pair: {str(error)[:80]}") from None
    info = frame.device_info
    return Pair(
        invite_id=frame.session_id,
        secret=frame.temp_token,
        device_name=info.device_name,
        platform=info.platform,
        app_version=info.app_version,
        os_version=info.os_version,
    )


def pairing_pending(confirmation_code: str) -> bytes:
    return _encode({"type": "pairing_pending", "confirmation_code": confirmation_code})


def auth_success(device_id: str, device_name: str, api_key: str | None = None) -> bytes:
    """`api_key` once, right after pairing."""
    text = "Authenticated." if api_key is None else "Paired. Keep jwt_token: it is shown once."
    success = {"type": "auth_success", "device_id": device_id, "device_name": device_name, "message": text}
    return _encode(success if api_key is None else success | {"jwt_token": api_key})


def ack(message_id: str) -> bytes:
    return _encode({"type": "ack", "message_id": message_id})


def message(content: str) -> bytes:
    return _encode({"type": "message", "content": content})


def error(text: str, code: str) -> bytes:
    return _encode({"type": "error", "message": text, "code": code})


class SimpleConnection(Connection):
    """As `Connection`; each `message` becomes an `Execute` of `message.send`, whose `data` lacks the conversation."""

    __slots__ = ("_pings", "_waiting")

    def __init__(self, *, now_s: float, pace: Pace) -> None:
        super().__init__(nonce="", now_s=now_s, pace=replace(pace, reauth_before_expiry_s=0.0))
        self._waiting = 0
        self._pings = 0

    def text(self, payload: bytes, now_s: float) -> list[Effect]:
        if self.state not in (State.CLAIMING, State.WAITING_FOR_OPERATOR):
            return super().text(payload, now_s)
        self.heard(now_s)
        self._pings += 1
        if self._pings > MAX_PINGS_WHILE_PAIRING:
            return self.end(Close.RATE_LIMITED, "too many pings while pairing")
        try:
            _ping_decoder.decode(payload)
        except wire.UNREADABLE:
            return self.end(Close.PROTOCOL_ERROR, "only pings while pairing")
        return [Send(wire.PONG)]

    def _first_frame(self, payload: bytes) -> list[Effect]:
        try:
            pair = decode_pair(payload)
            if pair is not None:
                self.state = State.CLAIMING
                self._deadline_s = self._heard_s + CLAIM_S
                return [pair]
            auth = decode_auth(payload)
        except MalformedFrame as refusal:
            return self.end(Close.PROTOCOL_ERROR, str(refusal))
        return self._authenticate(auth)

    def claimed(self, confirmation_code: str, expires_in_s: float, now_s: float) -> list[Effect]:
        """The invite is this connection's; the operator has `expires_in_s` seconds."""
        if self.is_closed:
            return []
        self.state = State.WAITING_FOR_OPERATOR
        self._deadline_s = now_s + expires_in_s + AFTER_DEADLINE_S
        return [Send(pairing_pending(confirmation_code))]

    def paired(self, api_key: str) -> list[Effect]:
        """The operator said yes: from here on as if the client had shown the key itself."""
        if self.is_closed:
            return []
        self._deadline_s = self._heard_s + CLAIM_S
        return self._authenticate(wire.Auth(api_key=api_key))

    def tick(self, now_s: float, fresh_nonce: str) -> list[Effect]:
        is_pairing = self.state in (State.CLAIMING, State.WAITING_FOR_OPERATOR)
        if is_pairing and now_s >= self._deadline_s:
            return self.end(Close.DRAINING, "the gateway did not answer the claim")
        return super().tick(now_s, fresh_nonce)

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
        if self._draining is not None:
            return [Send(problem_error(Problem(Code.DRAINING, "The gateway stops. Come back, then send it again.")))]
        if self._waiting >= MAX_WAITING:
            busy = Problem(Code.RATE_LIMITED, "Too many messages wait for their acknowledgement.")
            return [Send(problem_error(busy))]
        self._waiting += 1
        data = Raw(_encode({"content": frame.content}))
        return [Execute(CommandFrame("", COMMAND, data), principal)]

    @property
    def has_commands(self) -> bool:
        return self._waiting > 0

    def executed(self, frame: CommandFrame, answer: bytes) -> list[Effect]:
        self._waiting -= 1
        return super().executed(frame, answer)


def problem_error(problem: Problem) -> bytes:
    frame: dict[str, object] = {"type": "error", "message": problem.detail, "code": problem.code}
    return _encode(frame if problem.retry_after_s is None else frame | {"retry_after_s": problem.retry_after_s})
