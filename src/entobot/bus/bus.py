"""The Bus port."""

from collections.abc import Callable
from typing import Protocol

Listener = Callable[[str, bytes], None]


class Bus(Protocol):
    """Carries hints between the parts of a gateway and between nodes.

    At most once, unordered across topics, in publishing order within a topic and node. A lost message may cost
    latency, never data: whoever hears one re-reads rows, whoever misses one sweeps.
    Listeners are called on the event loop, must not block, and are also called for the node's own messages.
    """

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def publish(self, topic: str, payload: bytes = b"") -> None:
        """Send without waiting; loop thread only."""
        ...

    def subscribe(self, topic: str, listener: Listener) -> Callable[[], None]:
        """Hear `topic`, or every topic that starts with it when it ends in `*`. Returns the way to stop."""
        ...
