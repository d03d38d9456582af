"""Who hears what, by exact topic and by prefix."""

import asyncio
from collections.abc import Callable

from entobot.bus.bus import Listener


class Listeners:
    """A topic that ends in `*` means every topic that starts so."""

    def __init__(self) -> None:
        self._exact: dict[str, list[Listener]] = {}
        self._prefixes: dict[str, list[Listener]] = {}
        self._waiting: list[tuple[str, bytes]] = []

    def add(self, topic: str, listener: Listener) -> Callable[[], None]:
        """Returns the way to stop, which may be called again."""
        table, key = (self._prefixes, topic[:-1]) if topic.endswith("*") else (self._exact, topic)
        table.setdefault(key, []).append(listener)

        def stop() -> None:
            listeners = table.get(key, [])
            if listener in listeners:
                listeners.remove(listener)
            if not listeners:
                table.pop(key, None)

        return stop

    def clear(self) -> None:
        self._exact.clear()
        self._prefixes.clear()

    def tell(self, topic: str, payload: bytes) -> None:
        listeners = list(self._exact.get(topic, ()))
        for prefix, found in self._prefixes.items():
            if topic.startswith(prefix):
                listeners += found
        for listener in listeners:
            try:
                listener(topic, payload)
            except Exception as error:  # noqa: BLE001  one listener's failure must not cost another its doorbell
                context = {"message": f"a listener of {topic} failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)

    def tell_soon(self, topic: str, payload: bytes) -> None:
        """On the next turn of the loop, so that a publisher is never re-entered."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._tell_waiting)
        self._waiting.append((topic, payload))

    def _tell_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for topic, payload in waiting:
            self.tell(topic, payload)
