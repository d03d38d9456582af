"""Which nodes are alive. Each one's row has a beat that only it moves; a row whose beat stands still is removed.

Nobody compares clocks: every node watches the others' beats by its own monotonic one, and counts what it has seen, not
what it missed while it could not look.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from entobot.core.clock import Clock
from entobot.nodes import store
from entobot.storage.database import Database, Transaction
from entobot.telemetry.log import get_logger

BEAT_EVERY = timedelta(seconds=2.5)
DEAD_AFTER = timedelta(seconds=10)
LOOKS = 4
"""So often at least a beat has to be seen standing still: two looks far apart show nothing."""
GAP = timedelta(seconds=6)
"""Between two looks; after more, counting begins anew: perhaps it was the database that was away."""

log = get_logger("nodes")


@dataclass(slots=True)
class _Watched:
    beat: int
    since_s: float
    looks: int = 1


class Pulse:
    """What one node has seen of the others' beats. Pure."""

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}
        self._looked_s = float("-inf")

    def look(self, beats: dict[str, int], now_s: float) -> list[tuple[str, int]]:
        """Note the beats as they are now; those that have stood still for too long, each with its node."""
        is_late = now_s - self._looked_s > GAP.total_seconds()
        self._looked_s = now_s
        self._watched = {node_id: self._next(node_id, beat, now_s, is_late=is_late) for node_id, beat in beats.items()}
        return [
            (node_id, watched.beat)
            for node_id, watched in self._watched.items()
            if watched.looks >= LOOKS and now_s - watched.since_s >= DEAD_AFTER.total_seconds()
        ]

    def _next(self, node_id: str, beat: int, now_s: float, *, is_late: bool) -> _Watched:
        known = self._watched.get(node_id)
        if known is None or known.beat != beat or is_late:
            return _Watched(beat, now_s)
        return _Watched(beat, known.since_s, known.looks + 1)


class Membership:
    """This node among the others. `place` tells a node that came back from its earlier life."""

    def __init__(self, *, database: Database, clock: Clock, node_id: str, place: str, version: str) -> None:
        self.node_id = node_id
        self._database = database
        self._clock = clock
        self._place = place
        self._version = version
        self._pulse = Pulse()
        self.count = 1
        """Nodes that are alive, this one included."""
        self.on_removed: Callable[[], None] = _nothing
        """Called when this node was found to have been removed by others and has come back."""

    async def start(self) -> None:
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> int:
            found = store.all_nodes(tx)
            for earlier in found:
                if earlier.place == self._place:
                    store.remove_node(tx, earlier.node_id)
            store.insert_node(tx, self.node_id, self._place, self._version, now_ms)
            return 1 + sum(row.place != self._place for row in found)

        self.count = await self._database.write(unit)

    async def beat(self) -> list[str]:
        """Show that this node lives, look at the others, and remove who does not. Returns those that were removed."""
        now_ms, now_s = self._clock.now_ms(), self._clock.monotonic()

        def unit(tx: Transaction) -> tuple[bool, list[store.NodeRow]]:
            is_known = store.beat(tx, self.node_id)
            if not is_known:
                store.insert_node(tx, self.node_id, self._place, self._version, now_ms)
            return is_known, store.all_nodes(tx)

        is_known, found = await self._database.write(unit)
        if not is_known:
            log.warning("node.taken_for_dead", todo="Look why this node did not reach the database for 10 s.")
            self.on_removed()
        beats = {row.node_id: row.beat for row in found if row.node_id != self.node_id}
        removed: list[str] = []
        for node_id, at_beat in self._pulse.look(beats, now_s):
            if await self._database.write(lambda tx, n=node_id, b=at_beat: store.remove_node(tx, n, at_beat=b)):
                log.warning("node.dead", node_id=node_id)
                removed.append(node_id)
        self.count = 1 + len(beats) - len(removed)
        return removed

    async def stop(self) -> None:
        await self._database.write(self.leave)

    def leave(self, tx: Transaction) -> None:
        store.remove_node(tx, self.node_id)


def alive(tx: Transaction) -> frozenset[str]:
    """Ids of the nodes that are not known to be dead."""
    return frozenset(row.node_id for row in store.all_nodes(tx))


def _nothing() -> None:
    """Nobody asked to be told."""
