"""Who is connected to which node: rows, written in batches after the fact, gone with the node that wrote them."""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from entobot.bus.bus import Bus
from entobot.core import topics
from entobot.nodes import store
from entobot.storage.database import Database, StorageFailed, Transaction
from entobot.telemetry.log import get_logger

FLUSH_S = 0.2
RETRY_S = 1.0
MAX_ROWS = 1000
"""Of one transaction."""

log = get_logger("nodes")


class Presence:
    """This node's connections as the others see them. Loop thread only.

    A device's connections beyond `most`, over all nodes, are ended, the oldest first: `end` is called with the
    connection that `joined` was called with, on the node that has it.
    """

    def __init__(self, *, database: Database, bus: Bus, node_id: str, most: int, end: Callable[[Any], None]) -> None:
        self._database = database
        self._bus = bus
        self._node_id = node_id
        self._most = most
        self._end = end
        self._next = 0
        self._numbers: dict[Hashable, int] = {}
        self._here: dict[int, tuple[Hashable, str]] = {}
        self._to_add: dict[int, str] = {}
        self._to_remove: dict[int, None] = {}
        self._is_anew = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="presence")
        self._unsubscribe = self._bus.subscribe(topics.CONTROL_CONNECTIONS, self._rung)

    async def stop(self) -> None:
        """What is not written yet goes with the node's row."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # -- what happens here

    def joined(self, connection: Hashable, device_id: str) -> None:
        self._next += 1
        self._numbers[connection] = self._next
        self._here[self._next] = (connection, device_id)
        self._to_add[self._next] = device_id
        self._wake.set()

    def left(self, connection: Hashable) -> None:
        """Idempotent."""
        number = self._numbers.pop(connection, None)
        if number is None:
            return
        del self._here[number]
        if self._to_add.pop(number, None) is None:
            self._to_remove[number] = None
            self._wake.set()

    def write_anew(self) -> None:
        """The others have removed what this node had written."""
        self._is_anew = True
        self._wake.set()

    # -- what is known of all nodes

    async def online(self, device_ids: Sequence[str]) -> frozenset[str]:
        return frozenset(await self._database.read(lambda tx: store.online(tx, device_ids)))

    async def elsewhere(self, device_id: str) -> list[str]:
        """The places of the other nodes that hold connections of this device, one for each connection."""
        return await self._database.read(lambda tx: store.places_of(tx, device_id, self._node_id))

    def marked(self, tx: Transaction) -> list[int]:
        """Which of this node's connections are one too many; for `end_marked`."""
        return store.marked_connections(tx, self._node_id)

    def end_marked(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            found = self._here.get(number)
            if found is not None:
                self._end(found[0])

    # -- rows

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(FLUSH_S)
            self._wake.clear()
            try:
                await self.flush()
            except StorageFailed:
                self._wake.set()
                await asyncio.sleep(RETRY_S)
            except Exception:
                log.exception("presence.not_written")

    async def flush(self) -> None:
        """Write what has changed. Raises StorageFailed; then it is written with the next flush."""
        is_anew, self._is_anew = self._is_anew, False
        if is_anew:
            self._to_remove.clear()
            self._to_add = {number: device_id for number, (_, device_id) in self._here.items()}
        while is_anew or self._to_add or self._to_remove:
            await self._flush_some(is_anew=is_anew)
            is_anew = False

    async def _flush_some(self, *, is_anew: bool) -> None:
        adding = list(self._to_add.items())[:MAX_ROWS]
        removing = list(self._to_remove)[:MAX_ROWS]
        devices = sorted({device_id for _, device_id in adding})

        def unit(tx: Transaction) -> None:
            if is_anew:
                store.remove_all_connections(tx, self._node_id)
            store.remove_connections(tx, self._node_id, removing)
            store.insert_connections(tx, self._node_id, adding)
            for node_id in sorted(store.mark_oldest(tx, devices, self._most)):
                bell = node_id.encode("ascii")
                tx.after_commit(lambda bell=bell: self._bus.publish(topics.CONTROL_CONNECTIONS, bell))

        try:
            await self._database.write(unit)
        except StorageFailed:
            self._is_anew = True  # whether it was committed is not known
            raise
        for number in removing:
            self._to_remove.pop(number, None)
        for number, _ in adding:
            if self._to_add.pop(number, None) is None:  # it left while its row was being written
                self._to_remove[number] = None

    def _rung(self, _: str, payload: bytes) -> None:
        if payload == self._node_id.encode("ascii"):
            task = asyncio.get_running_loop().create_task(self._end_some())
            task.add_done_callback(_forget)

    async def _end_some(self) -> None:
        self.end_marked(await self._database.read(self.marked))


def _forget(task: "asyncio.Task[None]") -> None:
    """The next look ends them, where this one failed."""
    if not task.cancelled():
        task.exception()
