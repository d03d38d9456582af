"""Wait for a command to end. Who misses the bell looks again at the end."""

import asyncio
from collections.abc import Callable

from entobot.bus.bus import Bus
from entobot.storage.database import Database
from entobot.things import command_store
from entobot.things.model import Command

TOPIC = "things.ended"


class Waiting:
    """Of one node. `tell` is for whoever ends a command."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self.stop: Callable[[], None] = bus.subscribe(TOPIC, self._rung)

    def tell(self, command_id: str) -> None:
        """After the commit."""
        self._bus.publish(TOPIC, command_id.encode())

    def _rung(self, _: str, payload: bytes) -> None:
        for future in self._waiting.pop(payload.decode("ascii", "replace"), []):
            if not future.done():
                future.set_result(None)

    async def until_over(self, command_id: str, within_s: float) -> Command:
        """The command as it is when it is over, or after so long."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(command_id, []).append(future)
        try:
            found = await self._look(command_id)
            if found.is_over:
                return found
            try:
                async with asyncio.timeout(within_s):
                    await future
            except TimeoutError:
                pass
            return await self._look(command_id)
        finally:
            rest = [one for one in self._waiting.pop(command_id, []) if one is not future]
            if rest:
                self._waiting[command_id] = rest

    async def _look(self, command_id: str) -> Command:
        found = await self._database.read(lambda tx: command_store.find_command(tx, command_id), is_small=True)
        assert found is not None
        return found
