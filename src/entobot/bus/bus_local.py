"""Bus adapter for one process."""

import asyncio
from collections.abc import Callable

from entobot.bus.bus import Listener


class LocalBus:
    """See `Bus`. Delivers on the next turn of the loop, so that a publisher is never re-entered."""

    def __init__(self) -> None:
        self._exact: dict[str, list[Listener]] = {}
        self._prefixes: dict[str, list[Listener]] = {}

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        self._exact.clear()
        self._prefixes.clear()

    def publish(self, topic: str, payload: bytes = b"") -> None:
        asyncio.get_running_loop().call_soon(self._deliver, topic, payload)

    def subscribe(self, topic: str, listener: Listener) -> Callable[[], None]:
        table, key = (self._prefixes, topic[:-1]) if topic.endswith("*") else (self._exact, topic)
        table.setdefault(key, []).append(listener)

        def stop() -> None:
            listeners = table.get(key, [])
            if listener in listeners:
                listeners.remove(listener)
            if not listeners:
                table.pop(key, None)

        return stop

    def _deliver(self, topic: str, payload: bytes) -> None:
        listeners = list(self._exact.get(topic, ()))
        listeners += [one for prefix, found in self._prefixes.items() if topic.startswith(prefix) for one in found]
        for listener in listeners:
            try:
                listener(topic, payload)
            except Exception as error:  # noqa: BLE001  one listener's failure must not cost another its doorbell
                context = {"message": f"a listener of {topic} failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)
