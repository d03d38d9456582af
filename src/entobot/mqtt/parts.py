"""What the connections of a node share, and the words in which they end."""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from entobot.core.clock import Clock
from entobot.core.principal import Principal
from entobot.core.rates import Rate
from entobot.gateway.authentication import Authenticated, ConnectionAuthenticator, Refused
from entobot.gateway.feed import Feed
from entobot.gateway.hub import Hub
from entobot.gateway.limits import WaitingRoom
from entobot.gateway.link import Timers
from entobot.gateway.live import Live
from entobot.gateway.meters import ConnectionMeters
from entobot.gateway.rates import Rates
from entobot.gateway.wire import Close
from entobot.mqtt.codec import Frame
from entobot.mqtt.connection import Terms
from entobot.mqtt.layouts import Layout
from entobot.mqtt.model import Action
from entobot.mqtt.packets import Reason
from entobot.mqtt.service import Broker
from entobot.storage.database import Database, StorageFailed, Unit

log = logging.getLogger(__name__)

LOOK_S = 3600.0
"""A connection without deadlines is looked at so often."""
MAX_CONNECT_BYTES = 8 * 1024
"""Of the first packet, which a stranger sends."""
MAX_EARLY_BYTES = 64 * 1024
"""That may come before CONNACK: clients need not wait for it."""
MAX_BUFFERED_BYTES = 1024 * 1024
MAX_SHOWN_BYTES = 256 * 1024
"""While so much waits in the socket, messages of QoS 0 are dropped."""
DRAINED_WILL_S = 30
"""A board that is sent away because the gateway restarts comes back: its will waits so long."""
COUNTED_BYTES = 4 * 1024
"""A packet counts as one, and one more for each of these: what boards send is stored."""
EXPIRES_NEVER_MS = 2**62

REASONS = {
    Close.DRAINING: Reason.SERVER_SHUTTING_DOWN,
    Close.SILENCE: Reason.KEEP_ALIVE_TIMEOUT,
    Close.SLOW_CONSUMER: Reason.QUOTA_EXCEEDED,
    Close.TOKEN_EXPIRED: Reason.NOT_AUTHORIZED,
    Close.RATE_LIMITED: Reason.MESSAGE_RATE_TOO_HIGH,
    Close.BAD_CREDENTIALS: Reason.BAD_USER_NAME_OR_PASSWORD,
    Close.REVOKED: Reason.NOT_AUTHORIZED,
    Close.SUSPENDED: Reason.ADMINISTRATIVE_ACTION,
    Close.PROTOCOL_ERROR: Reason.PROTOCOL_ERROR,
    Close.TOO_MANY_CONNECTIONS: Reason.QUOTA_EXCEEDED,
    Close.FRAME_TOO_LARGE: Reason.PACKET_TOO_LARGE,
}
CONNACKS = {Close.REVOKED: Reason.NOT_AUTHORIZED, Close.SUSPENDED: Reason.NOT_AUTHORIZED} | {
    Close.DRAINING: Reason.SERVER_UNAVAILABLE,
    Close.RATE_LIMITED: Reason.CONNECTION_RATE_EXCEEDED,
    Close.TOKEN_EXPIRED: Reason.NOT_AUTHORIZED,
}
CUT_OFF = frozenset({Close.REVOKED, Close.SUSPENDED, Close.TOKEN_EXPIRED})
"""Whoever is ended so may say nothing more, its will included."""
CLOSES = {
    Reason.SUCCESS: 1000,
    Reason.KEEP_ALIVE_TIMEOUT: Close.SILENCE,
    Reason.PACKET_TOO_LARGE: Close.FRAME_TOO_LARGE,
}


class Wire(Protocol):
    """A stream of bytes to one client. All calls are made on the loop's thread and never block."""

    @property
    def peer(self) -> str: ...
    @property
    def certificate(self) -> bytes | None:
        """What the client showed to TLS and proved to hold, DER."""
        ...

    @property
    def buffered_bytes(self) -> int: ...
    @property
    def is_writable(self) -> bool:
        """False while the socket takes no more; `MqttSession.writable` is called when it does again."""
        ...

    def send(self, data: bytes) -> None: ...
    def close(self) -> None:
        """Once what was sent is out."""
        ...

    def abort(self) -> None: ...
    def pause(self, *, is_paused: bool) -> None:
        """Whether to read on."""
        ...

    def let_in(self) -> None:
        """The client is known now: its messages may be larger."""
        ...


@dataclass(frozen=True, slots=True)
class MqttParts:
    """What every connection of a node shares. `on_denied(device_id, action, topic or filter, rule)`."""

    broker: Broker
    database: Database
    clock: Clock
    hub: Hub
    feed: Feed
    authenticator: ConnectionAuthenticator
    timers: Timers
    waiting: WaitingRoom
    rates: Rates
    spawn: Callable[[Coroutine[None, None, None]], None]
    on_refused: Callable[[Refused, str], None]
    on_denied: Callable[[str, Action, str, str], None]
    meters: ConnectionMeters
    terms: Terms = field(default_factory=Terms)
    layouts: Mapping[str, Layout] = field(default_factory=dict[str, Layout])
    certificates: Callable[[bytes, str], Awaitable[Authenticated]] | None = None
    """Who shows this certificate (DER) from this address. Raises Refused."""
    unclosed: "deque[Unit[None]]" = field(default_factory=lambda: deque(maxlen=20_000))
    """Ends that the store did not take; to be tried again."""
    next_number: Callable[[], int] = field(default_factory=lambda: count(1).__next__)

    def wait_s(self, principal: Principal, frame: Frame) -> float:
        """Until this packet may be taken; 0.0: now."""
        return self.rates.wait_of_principal(Rate.FRAMES, principal, 1 + len(frame[1]) // COUNTED_BYTES)

    def submit_close(self, unit: Unit[None], key: str, otherwise: Unit[None] | None = None) -> None:
        """The end of a session. Nobody waits for it, and it is not forgotten while the store does not answer.

        `otherwise`: where an error keeps `unit` from its end, so that the session is not held for ever.
        """

        def settle(_: None, error: BaseException | None) -> None:
            if isinstance(error, StorageFailed):
                self.unclosed.append(unit)
            elif error is not None:
                log.error("a session could not be closed", exc_info=error)
                if otherwise is not None:
                    self.submit_close(otherwise, key)

        self.database.submit_write(unit, settle, key)


class HearsNoEvents:
    """The part of `hub.Subscriber` that is about a user's events: boards are not sent them."""

    __slots__ = ()

    @property
    def transport(self) -> str:
        return "mqtt"

    def news(self) -> None: ...
    def show(self, live: Live, payload: bytes) -> None: ...
    def acknowledged(self, seq: int) -> None: ...
