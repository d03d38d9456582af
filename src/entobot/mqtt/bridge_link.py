"""A bridge's connection to the other broker: opened, kept, and opened again when it is lost."""

import asyncio
import logging
from collections.abc import Callable

from entobot.client.returning import Backoff
from entobot.core.secrets import Entropy
from entobot.mqtt.bridge import NotHeld
from entobot.mqtt.bridge_client import Ended
from entobot.mqtt.bridge_line import Line, Parts
from entobot.mqtt.bridge_place import ended, unreachable
from entobot.mqtt.bridge_store import State
from entobot.mqtt.packets import Malformed
from entobot.storage.database import StorageFailed

log = logging.getLogger("entobot.mqtt")


class Link:
    """`on_rude` hears of what no broker may do."""

    def __init__(self, parts: Parts, entropy: Entropy) -> None:
        self._parts = parts
        self._backoff = Backoff(entropy, first_s=1.0)
        self._error = ""
        self.on_rude: Callable[[str], None] = lambda _: None

    def ring(self) -> None:
        self._parts.bell.set()

    async def run(self, known: tuple[str, ...]) -> None:
        """Until it is cancelled, or another node holds the bridge. `known` are the filters of the last subscription."""
        parts = self._parts
        try:
            while True:
                begun_s = parts.clock.monotonic()
                line = Line(parts, known)
                self._error = await self._try(line)
                known = line.known
                parts.on_state(False)
                self._backoff.lasted(parts.clock.monotonic() - begun_s if line.is_up else 0.0)
                await self._note(State.WAITING, self._error)
                await asyncio.sleep(self._backoff.delay_s())
        except NotHeld:
            log.info("another node holds the bridge %s now", parts.bridge.name)
        finally:
            parts.on_state(False)

    async def _try(self, line: Line) -> str:
        """Why it is over, in words that say what to do. Raises NotHeld."""
        place = self._parts.place
        try:
            await self._parts.note(State.CONNECTING, self._error)
            await line.live()
        except StorageFailed:
            return "The gateway's own store does not answer. It goes on by itself."
        except Malformed as error:
            self.on_rude(str(error))
            return f"{place.shown} sent what no broker may: {error}. Look at what listens there."
        except Ended as error:
            return ended(error, place)
        except (OSError, TimeoutError) as error:
            return unreachable(error, place)
        return "It ended."

    async def _note(self, state: State, error: str) -> None:
        try:
            await self._parts.note(state, error)
        except StorageFailed:
            log.warning("the state of bridge %s could not be noted", self._parts.bridge.name)
