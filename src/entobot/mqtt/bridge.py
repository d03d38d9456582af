"""Use cases of one bridge: take what the other broker says, keep what it is to be told until it has it.

Methods that take `tx` are units, or parts of units of other features. Any node may put something into the outbox; only
the one that holds the bridge speaks to the other broker.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace

from entobot.mqtt import bridge_store as store
from entobot.mqtt.bridge_map import Boards, Map, Refused, Said, Who, Why
from entobot.mqtt.bridge_store import BridgeRow, Outgoing, State
from entobot.mqtt.packets import Publish
from entobot.mqtt.service import Broker
from entobot.storage.database import Transaction

_came_over: ContextVar[bool] = ContextVar("came_over_a_bridge", default=False)
"""In a unit that takes what a bridge brought: it goes back over none, so that no two can make a circle."""

MEET_MS = 1000
"""Between two looks at all boards for the sake of one that is not known: the other broker names them."""


class NotHeld(Exception):  # noqa: N818  reads as what happened
    """Another node has the bridge now."""


@dataclass(frozen=True, slots=True)
class Bounds:
    max_payload_bytes: int = 16 * 1024
    max_waiting: int = 10_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of some messages: how many were taken, and how many were refused for which reason."""

    taken: int
    refused: Counter[Why]


OnRefused = Callable[[Transaction, str, Why, str, int], None]
"""A bridge's name, why, the other broker's word for the last of them, and now: in the unit that counts it."""


class Bridge:
    """`meet` reads whom it may speak for; `boards` are those of the last time. `ring` is called after the commit that gave it something to tell,
    `is_called_off` asked of what waits and may expire.
    """

    def __init__(self, name: str, node: str, mapping: Map, broker: Broker, bounds: Bounds) -> None:
        self.name = name
        self.map = mapping
        self.boards = Boards((), "id", (), ())
        self.meet: Callable[[Transaction], Boards] = lambda _: self.boards
        self._met_ms = 0
        self._strangers: set[str] = set()
        self._strangers_of = self.boards
        """Whom `boards` does not name although all were read for their sake."""
        self.ring: Callable[[], None] = lambda: None
        self.is_called_off: Callable[[Transaction, Outgoing], bool] = lambda _tx, _one: False
        self.on_refused: OnRefused = lambda _tx, _name, _why, _said, _now: None
        self.bounds = bounds
        self._node = node
        self._broker = broker

    # -- who holds it

    def hold(self, tx: Transaction, alive: frozenset[str], now_ms: int) -> BridgeRow | None:
        """Its row, where this node holds it or could take it from nobody, or from a node that is gone; else None."""
        found = store.find(tx, self.name)
        if found is None:
            store.add(tx, self.name, now_ms)
            found = store.find(tx, self.name)
        if found is None or found.node == self._node:
            return found
        if found.node is not None and found.node in alive:
            return None
        return found if store.hold(tx, self.name, self._node, seen=found.node) else None

    def note(self, tx: Transaction, state: State, error: str, now_ms: int) -> None:
        store.set_state(tx, self.name, self._node, state, error, now_ms)

    def subscribed(self, tx: Transaction, filters: Sequence[str]) -> None:
        store.set_filters(tx, self.name, self._node, "\n".join(filters))

    # -- what comes

    def take(self, tx: Transaction, came: Sequence[Publish | None], now_ms: int) -> Outcome:
        """All of them, or none; None stands for one that could not be looked at. Raises NotHeld."""
        if not store.is_mine(tx, self.name, self._node):
            raise NotHeld
        taken, refused, last = 0, Counter[Why](), ""
        for one in came:
            for found in self._read(tx, one, now_ms):
                refusal = found if isinstance(found, Refused) else self._bring(tx, found, now_ms)
                if refusal is None:
                    taken += 1
                    continue
                refused[refusal.why] += 1
                last = f"{refusal.why}: {refusal.said}" if refusal.said else str(refusal.why)
                self.on_refused(tx, self.name, refusal.why, refusal.said, now_ms)
        if taken:
            store.count(tx, self.name, taken=taken)
        if refused:
            store.refuse(tx, self.name, refused.total(), last, now_ms)
        return Outcome(taken, refused)

    def _read(self, tx: Transaction, one: Publish | None, now_ms: int) -> Sequence[Said | Refused]:
        if one is None or len(one.payload) > self.bounds.max_payload_bytes:
            return [Refused(Why.LARGE, "" if one is None else one.topic[:128])]
        if one.retain:
            return [Refused(Why.OLD, one.topic[:128])]
        found = self.map.inward(one.topic, one.payload, self.boards)
        if now_ms - self._met_ms >= MEET_MS and any(isinstance(o, Refused) and o.why is Why.DEVICE for o in found):
            self.boards, self._met_ms = self.meet(tx), now_ms  # perhaps it is new
            found = self.map.inward(one.topic, one.payload, self.boards)
        return found

    def _bring(self, tx: Transaction, said: Said, now_ms: int) -> Refused | None:
        who, before = said.who, _came_over.set(True)
        try:
            is_taken = self._broker.bring(tx, who.device_id, who.user_id, said.what, said.payload, now_ms)
        finally:
            _came_over.reset(before)
        return None if is_taken else Refused(Why.DEVICE, who.device_id)

    # -- what goes

    def tell(
        self, tx: Transaction, of: str, device_id: str, payload: Callable[[bool], bytes], now_ms: int, *, name: str = "",
        expires_at_ms: int | None = None,
    ) -> None:  # fmt: skip
        """Part of the unit in which it happened. `payload` makes it, as JSON or bare."""
        if _came_over.get():
            return
        who = self._who(tx, device_id)
        if who is None:
            return
        for one, topic in self.map.outward(of, who, self.boards, name):
            store.put(tx, self.name, Outgoing(0, topic, payload(one.is_json), one.retain, expires_at_ms), now_ms)
            tx.after_commit(self.ring)

    def _who(self, tx: Transaction, device_id: str) -> Who | None:
        """Reads all boards for one that may be new, and once for one that is none of them."""
        if self._strangers_of is not self.boards:  # devices have changed
            self._strangers, self._strangers_of = set(), self.boards
        if not self.boards.has_seen(device_id) and device_id not in self._strangers:
            self.boards = self._strangers_of = self.meet(tx)
            if not self.boards.has_seen(device_id):
                self._strangers.add(device_id)
        return self.boards.get(device_id)

    def waiting(self, tx: Transaction, most: int) -> list[Outgoing]:
        """The oldest; those that nobody wants any more have expired. Raises NotHeld."""
        if not store.is_mine(tx, self.name, self._node):
            raise NotHeld
        return [
            replace(one, expires_at_ms=0) if one.expires_at_ms is not None and self.is_called_off(tx, one) else one
            for one in store.oldest(tx, self.name, most)
        ]

    def finish(self, tx: Transaction, numbers: Sequence[int], *, is_told: bool) -> int:
        """The other broker has them, or never will; how many were still there."""
        gone = sum(store.done(tx, self.name, number) for number in numbers)
        if gone:
            store.count(tx, self.name, told=gone if is_told else 0, dropped=0 if is_told else gone)
        return gone

    def trim(self, tx: Transaction) -> int:
        """Drop the oldest beyond what may wait."""
        gone = store.trim(tx, self.name, self.bounds.max_waiting)
        if gone:
            store.count(tx, self.name, dropped=gone)
        return gone
