"""One connection as the device sees it: frames in, what they mean out. Pure; alike over WebSocket and HTTP."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Raw, Struct

from entobot.client.events import Approval, CaughtUp, Event, Snapshot, read_body
from entobot.client.journal import Position
from entobot.core.errors import Code, Problem


class Hello(Struct, frozen=True, tag_field="type", tag="hello"):
    nonce: str
    ts: int
    heartbeat_s: float = 30.0


class Ready(Struct, frozen=True, tag_field="type", tag="ready"):
    device_id: str
    user_id: str
    scopes: list[str]
    stream: str
    seq: int
    expires_in: int


class Reauth(Struct, frozen=True, tag_field="type", tag="reauth"):
    nonce: str


class Reauthed(Struct, frozen=True, tag_field="type", tag="reauthed"):
    expires_in: int


class Reset(Struct, frozen=True, tag_field="type", tag="reset"):
    reason: str


class SnapshotFrame(Struct, frozen=True, tag_field="type", tag="snapshot"):
    seq: int
    conversations: list[dict[str, Any]] = []
    pending_approvals: list[Approval] = []
    unread: int = 0
    more: bool = False


class ResumeDone(Struct, frozen=True, tag_field="type", tag="resume_done"):
    seq: int


class EventFrame(Struct, frozen=True, tag_field="type", tag="event"):
    ts: int
    topic: str
    event: Raw
    seq: int | None = None


class Result(Struct, frozen=True, tag_field="type", tag="result"):
    id: str
    data: dict[str, Any]


class Error(Struct, frozen=True, tag_field="type", tag="error"):
    """With `id` it refuses that command, without it a frame, or it says why the connection ends."""

    code: str
    message: str
    retry: bool = False
    id: str | None = None
    retry_after_s: float | None = None

    @property
    def problem(self) -> Problem:
        try:
            code = Code(self.code)
        except ValueError:  # newer than this client
            code = Code.INTERNAL if self.retry else Code.INVALID
        return Problem(code, self.message, retry_after_s=self.retry_after_s)


class Pong(Struct, frozen=True, tag_field="type", tag="pong"):
    pass


Frame = Hello | Ready | Reauth | Reauthed | Reset | SnapshotFrame | ResumeDone | EventFrame | Result | Error | Pong
_decode = msgspec.json.Decoder(Frame).decode
_decode_any = msgspec.json.Decoder(dict[str, Any]).decode


class NotAFrame(Exception):  # noqa: N818  reads as what happened
    """What came is no frame of the protocol: whoever answers there is no gateway."""


def read_frame(payload: bytes) -> Frame | None:
    """None for a frame that this client does not know. Raises NotAFrame."""
    try:
        return _decode(payload)
    except msgspec.ValidationError as error:
        if _tag_of(payload) in _TAGS:
            raise NotAFrame(str(error)) from None
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotAFrame(str(error)) from None


def _tag_of(payload: bytes) -> object:
    try:
        return _decode_any(payload).get("type")
    except msgspec.DecodeError:
        raise NotAFrame("no JSON object") from None


_TAGS = frozenset(
    ("hello", "ready", "reauth", "reauthed", "reset", "snapshot", "resume_done", "event", "result", "error", "pong")
)


@dataclass(frozen=True, slots=True)
class Told:
    """Something for the application, and where it is once it has processed it."""

    item: Event | Snapshot | CaughtUp
    reaches: Position | None


@dataclass(slots=True)
class Exchange:
    """Keeps what has been received apart from what the application has processed."""

    received: Position | None = None
    """Where the next connection may go on, if nothing that was told is forgotten."""
    stream: str | None = None
    """Of this connection; None before `ready`."""
    sent_up_to: int = 0
    """The highest `seq` that this connection has brought or begun at: nothing beyond may be acknowledged."""
    _reason: str = field(default="", init=False)
    _pages: list[SnapshotFrame] = field(default_factory=list[SnapshotFrame], init=False)

    def begin(self) -> Position | None:
        """A new connection. Returns what to resume with."""
        self.stream = None
        self.sent_up_to = 0
        self._pages.clear()
        return self.received

    def ready(self, frame: Ready) -> None:
        self.stream = frame.stream
        known = self.received
        if known is not None and known.stream == frame.stream and known.after <= frame.seq:
            self.sent_up_to = known.after  # else a reset follows

    def reset(self, frame: Reset) -> None:
        self._reason = frame.reason
        self._pages.clear()

    def snapshot(self, frame: SnapshotFrame) -> Told | None:
        """None until the last page is there."""
        self._pages.append(frame)
        if frame.more:
            return None
        pages, self._pages = self._pages, []
        item = Snapshot(
            self._reason,
            frame.seq,
            [row for page in pages for row in page.conversations],
            [row for page in pages for row in page.pending_approvals],
            frame.unread,
        )
        return Told(item, self._reached(frame.seq))

    def resume_done(self, frame: ResumeDone) -> Told:
        return Told(CaughtUp(frame.seq), self._reached(max(frame.seq, self.sent_up_to)))

    def event(self, frame: EventFrame) -> Told | None:
        """None for a durable event that was told before."""
        item = Event(frame.seq, frame.ts, frame.topic, read_body(frame.event))
        if frame.seq is None:
            return Told(item, None)
        if frame.seq <= self.sent_up_to:
            return None
        return Told(item, self._reached(frame.seq))

    def may_acknowledge(self, position: Position) -> bool:
        return position.stream == self.stream and position.after <= self.sent_up_to

    def _reached(self, seq: int) -> Position:
        if self.stream is None:
            raise NotAFrame("events before ready")
        self.sent_up_to = seq
        self.received = Position(self.stream, seq)
        return self.received
