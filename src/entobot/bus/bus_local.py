"""Bus adapter for one process."""

from collections.abc import Callable

from entobot.bus.bus import BusHealth, Listener
from entobot.bus.listeners import Listeners


class LocalBus:
    """See `Bus`."""

    def __init__(self) -> None:
        self._listeners = Listeners()

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        self._listeners.clear()

    def publish(self, topic: str, payload: bytes = b"", *, replaces: bool = False, may_drop: bool = False) -> None:
        del replaces, may_drop  # nothing waits here
        self._listeners.tell_soon(topic, payload)

    def subscribe(self, topic: str, listener: Listener) -> Callable[[], None]:
        return self._listeners.add(topic, listener)

    def subscribe_others(self, topic: str, listener: Listener) -> Callable[[], None]:
        """There are no others."""
        del topic, listener
        return _nothing

    def health(self) -> BusHealth:
        return BusHealth("local")


def _nothing() -> None:
    """Nobody listens, so nobody has to stop."""
