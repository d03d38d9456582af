"""One connection as a state machine: frames, answers and time in, effects out. Pure; shared by every transport.

    opened → waiting for auth → authenticating → joining → ready ⇄ reauthenticating → closed
                    └→ claiming → waiting for the operator ┘      (simple protocol only)

Times are seconds on a monotonic clock (`now_s`) except where a name ends in `_ms` (wall clock).
"""

from dataclasses import dataclass, field
from enum import Enum, auto

from msgspec import Struct

from entobot.core.errors import Code, Problem
from entobot.core.ids import is_ulid
from entobot.core.principal import Principal
from entobot.gateway import wire
from entobot.gateway.wire import Ack, Auth, Close, CommandFrame, MalformedFrame


@dataclass(frozen=True, slots=True)
class Pace:
    """Deadlines and limits of a connection, in seconds."""

    auth_s: float = 5.0
    heartbeat_s: float = 30.0
    silence_s: float = 75.0
    reauth_before_expiry_s: float = 60.0
    reauth_answer_s: float = 30.0
    max_commands_in_flight: int = 256


class Send(Struct, frozen=True, gc=False):
    payload: bytes


class SendPing(Struct, frozen=True, gc=False):
    """A WebSocket ping (RFC 6455 §5.5.2)."""


class End(Struct, frozen=True, gc=False):
    """`retry_after_s`: when this client should come back, where somebody knows."""

    code: Close
    reason: str
    retry_after_s: float | None = None


class Authenticate(Struct, frozen=True):
    """Verify these credentials against `nonce`; answer with `authenticated` or `refused`."""

    frame: Auth
    nonce: str
    again_as: Principal | None = None


class Join(Struct, frozen=True):
    """Start delivering events to this principal from where `auth.resume` says; answer with `joined`."""

    principal: Principal
    auth: Auth


class Execute(Struct, frozen=True):
    """Run a command; answer with `executed`."""

    frame: CommandFrame
    principal: Principal


class Acknowledge(Struct, frozen=True, gc=False):
    seq: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Claim an invite without a key (simple protocol only); answer with `claimed`, `paired` or `end`."""

    invite_id: str
    secret: str = field(repr=False)
    device_name: str
    platform: str
    app_version: str
    os_version: str


Effect = Send | SendPing | End | Authenticate | Join | Execute | Acknowledge | Pair


class State(Enum):
    WAITING_FOR_AUTH = auto()
    AUTHENTICATING = auto()
    CLAIMING = auto()
    WAITING_FOR_OPERATOR = auto()
    JOINING = auto()
    READY = auto()
    REAUTH_ASKED = auto()
    REAUTHENTICATING = auto()
    CLOSED = auto()


SAME_END_S = 1.0
_LIVE = (State.READY, State.REAUTH_ASKED, State.REAUTHENTICATING)


class Connection:
    """Every method returns the effects to carry out, in order. After an `End` nothing follows."""

    __slots__ = ("_asked_for_s", "_auth", "_deadline_s", "_draining", "_expires_s", "_heard_s", "_in_flight", "_nonce", "_pace", "_pinged_s", "principal", "state")  # fmt: skip

    def __init__(self, *, nonce: str, now_s: float, pace: Pace) -> None:
        self.state = State.WAITING_FOR_AUTH
        self.principal: Principal | None = None
        self._pace = pace
        self._nonce = nonce
        self._auth: Auth | None = None
        self._heard_s = now_s
        self._pinged_s = now_s
        self._deadline_s = now_s + pace.auth_s
        self._expires_s = float("inf")
        self._asked_for_s = float("-inf")
        self._in_flight: set[tuple[str, str, bytes]] = set()
        self._draining: End | None = None

    @property
    def is_closed(self) -> bool:
        return self.state is State.CLOSED

    @property
    def last_heard_s(self) -> float:
        return self._heard_s

    def expires_in_s(self, now_s: float) -> int:
        """Whole seconds until the credentials end."""
        return max(0, int(self._expires_s - now_s))

    # -- frames

    def heard(self, now_s: float) -> None:
        """Any sign of life, pongs included."""
        self._heard_s = now_s

    def text(self, payload: bytes, now_s: float) -> list[Effect]:
        self._heard_s = now_s
        if self.state in _LIVE:
            return self._live_frame(payload)
        if self.state is State.WAITING_FOR_AUTH:
            return self._first_frame(payload)
        return self.end(Close.PROTOCOL_ERROR, "one frame before ready")

    def binary(self) -> list[Effect]:
        return self.end(Close.PROTOCOL_ERROR, "binary frames have no meaning here")

    def too_large(self) -> list[Effect]:
        return self.end(Close.FRAME_TOO_LARGE, "frame too large")

    def _first_frame(self, payload: bytes) -> list[Effect]:
        try:
            auth = wire.decode_auth(payload)
        except MalformedFrame:
            return self.end(Close.PROTOCOL_ERROR, "the first frame must be auth")
        return self._authenticate(auth)

    def _authenticate(self, auth: Auth) -> list[Effect]:
        self._auth = auth
        self.state = State.AUTHENTICATING
        return [Authenticate(auth, self._nonce)]

    def _live_frame(self, payload: bytes) -> list[Effect]:
        try:
            frame = wire.decode(payload)
        except MalformedFrame:
            return self.end(Close.PROTOCOL_ERROR, "not a frame of entobot.v1")
        if isinstance(frame, CommandFrame):
            return self._command(frame)
        if isinstance(frame, Ack):
            return [Acknowledge(frame.seq)]
        if isinstance(frame, Auth):
            return self._auth_again(frame)
        return [Send(wire.PONG)]

    def _command(self, frame: CommandFrame) -> list[Effect]:
        assert self.principal is not None
        if not is_ulid(frame.id):
            return self.end(Close.PROTOCOL_ERROR, "a command id is a ULID")
        if _key(frame) in self._in_flight:
            return []  # the same command again before its answer: that answer serves both
        if self._draining is not None:
            over = Problem(Code.DRAINING, "The gateway stops. Come back, then send it again.")
            return [Send(wire.error(over, frame.id))]
        if len(self._in_flight) >= self._pace.max_commands_in_flight:
            busy = Problem(Code.RATE_LIMITED, "Too many commands are waiting for their result.")
            return [Send(wire.error(busy, frame.id))]
        self._in_flight.add(_key(frame))
        return [Execute(frame, self.principal)]

    def executed(self, frame: CommandFrame, answer: bytes) -> list[Effect]:
        """`answer` is the result or error frame of the command that was executed."""
        self._in_flight.discard(_key(frame))
        return [] if self.is_closed else [Send(answer), *self._end_if_answered()]

    # -- authentication

    def authenticated(self, principal: Principal, expires_in_s: float, now_s: float) -> list[Effect]:
        """The credentials of the last `Authenticate` are good for `expires_in_s` seconds more ; finite."""
        if self.is_closed:
            return []
        known = self.principal
        if known is None:
            assert self._auth is not None
            self.principal = principal
            self._lasts_until(now_s + expires_in_s)
            self.state = State.JOINING
            return [Join(principal, self._auth)]
        if (known.user_id, known.device_id, known.key_thumbprint) != (
            principal.user_id,
            principal.device_id,
            principal.key_thumbprint,
        ):
            return self.end(Close.BAD_CREDENTIALS, "reauthenticated as somebody else")
        self.principal = principal
        self._lasts_until(now_s + expires_in_s)
        self.state = State.READY
        return [Send(wire.reauthed(int(expires_in_s)))]

    def joined(self) -> None:
        """`ready` goes out: from now on frames are taken. Before it the client cannot know who it is."""
        if self.state is State.JOINING:
            self.state = State.READY

    def refused(self, code: Close, reason: str, retry_after_s: float | None = None) -> list[Effect]:
        return self.end(code, reason, retry_after_s)

    def _lasts_until(self, expires_s: float) -> None:
        self._expires_s = expires_s
        self._deadline_s = float("inf")

    def _auth_again(self, frame: Auth) -> list[Effect]:
        if self.state is not State.REAUTH_ASKED or not frame.is_well_formed:
            return self.end(Close.PROTOCOL_ERROR, "auth was not asked for")
        self.state = State.REAUTHENTICATING
        return [Authenticate(frame, self._nonce, again_as=self.principal)]

    # -- time

    def next_check_s(self) -> float:
        """When `tick` has something to do, if nothing is heard until then."""
        if self.state in (State.WAITING_FOR_AUTH, State.AUTHENTICATING):
            return self._deadline_s
        due = min(self._deadline_s, self._expires_s, self._heard_s + self._pace.silence_s)
        if self._may_ask_again:
            due = min(due, self._expires_s - self._pace.reauth_before_expiry_s)
        return min(due, self._pinged_s + self._pace.heartbeat_s)

    def tick(self, now_s: float, fresh_nonce: str) -> list[Effect]:
        """Act on what is due. `fresh_nonce` is used if a reauth is asked for now."""
        if self.is_closed:
            return []
        if self.state in (State.WAITING_FOR_AUTH, State.AUTHENTICATING):
            return self._authentication_is_late() if now_s >= self._deadline_s else []
        if now_s >= min(self._expires_s, self._deadline_s):
            return self.end(Close.TOKEN_EXPIRED, "the token expired")
        if now_s >= self._heard_s + self._pace.silence_s:
            return self.end(Close.SILENCE, "nothing heard")
        effects: list[Effect] = []
        if self._may_ask_again and now_s >= self._expires_s - self._pace.reauth_before_expiry_s:
            self._asked_for_s = self._expires_s
            self.state = State.REAUTH_ASKED
            self._nonce = fresh_nonce
            self._deadline_s = now_s + self._pace.reauth_answer_s
            effects.append(Send(wire.reauth(fresh_nonce)))
        if now_s >= self._pinged_s + self._pace.heartbeat_s:
            self._pinged_s = now_s
            effects.append(SendPing())
        return effects

    @property
    def _may_ask_again(self) -> bool:
        """Credentials that were renewed by others with the same end are not asked for once more."""
        return self.state is State.READY and self._expires_s > self._asked_for_s + SAME_END_S

    def _authentication_is_late(self) -> list[Effect]:
        """Both codes say "come back": a slow network, or a busy gateway, is nobody's protocol error."""
        if self.state is State.WAITING_FOR_AUTH:
            return self.end(Close.SILENCE, "no auth frame in time")
        return self.end(Close.DRAINING, "the gateway is too busy to authenticate")

    # -- the end

    def end(self, code: Close, reason: str, retry_after_s: float | None = None) -> list[Effect]:
        if self.is_closed:
            return []
        self.state = State.CLOSED
        return [End(code, reason, retry_after_s)]

    def drain(self, reason: str, retry_after_s: float) -> list[Effect]:
        """Take no more commands; once those that run are answered, end with 4000."""
        if self.is_closed:
            return []
        self._draining = End(Close.DRAINING, reason, retry_after_s)
        return self._end_if_answered()

    def _end_if_answered(self) -> list[Effect]:
        if self._draining is None or self.has_commands:
            return []
        self.state = State.CLOSED
        return [self._draining]

    @property
    def has_commands(self) -> bool:
        """Whether commands wait for their answer."""
        return bool(self._in_flight)

    def lost(self) -> None:
        """The link is gone."""
        self.state = State.CLOSED


def _key(frame: CommandFrame) -> tuple[str, str, bytes]:
    """What makes a frame the same command again; other data under the same id is the executor's to refuse."""
    return frame.id, frame.name, bytes(frame.data)
