"""The Bus port."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

Listener = Callable[[str, bytes], None]

HERE = "here."
"""What a topic begins with that never leaves its node."""


@dataclass(frozen=True, slots=True)
class BusHealth:
    """How the doorbell is. `kind` is `local`, `nats` or `postgresql`; `detail` is for the operator and holds no secret.

    `waiting` messages are not sent yet, `dropped` ones will never be, `missed` ones of other nodes never arrived here.
    `oldest_s` is how long the first of the waiting ones has waited, `away_s` how long other nodes have been out of
    reach; 0 when nothing waits, and while they are in reach. `reconnects` counts how often they were reached again.
    """

    kind: str
    is_connected: bool = True
    detail: str = ""
    waiting: int = 0
    sent: int = 0
    dropped: int = 0
    missed: int = 0
    oldest_s: float = 0.0
    away_s: float = 0.0
    reconnects: int = 0


class Bus(Protocol):
    """Carries hints between the parts of a gateway and between nodes.

    At most once, unordered across topics, in publishing order within a topic and node. A lost message may cost
    latency, never data: whoever hears one re-reads rows, whoever misses one sweeps.
    Listeners are called on the event loop, must not block, and are also called for the node's own messages, at once
    and whether other nodes can be reached or not. Topics and payloads are UTF-8; topics that begin with `here.` are
    for this node alone.
    """

    async def start(self) -> None:
        """Never fails because other nodes cannot be reached: it goes on trying, and `health` says so."""
        ...

    async def stop(self) -> None: ...

    def publish(self, topic: str, payload: bytes = b"", *, replaces: bool = False, may_drop: bool = False) -> None:
        """Send without waiting; loop thread only.

        `replaces`: on its way to other nodes it may take the place of the topic's last message, if that one was
        published so, too, and waits. `may_drop`: worthless when late; not kept while other nodes cannot be reached.
        """
        ...

    def subscribe(self, topic: str, listener: Listener) -> Callable[[], None]:
        """Hear `topic`, or every topic that starts with it when it ends in `*`. Returns the way to stop."""
        ...

    def subscribe_others(self, topic: str, listener: Listener) -> Callable[[], None]:
        """As `subscribe`, for what other nodes publish."""
        ...

    def health(self) -> BusHealth:
        """From any thread."""
        ...
