"""The connections of this node that hold a session, and how they hear of what others did to it.

What happened is in the rows. A bell to another node may be lost: `catch_up` makes up for it.
"""

from collections.abc import Iterable, Mapping

from entobot.bus.bus import Bus
from entobot.mqtt.holding import Held, LiveSession
from entobot.mqtt.model import Delivery, Head


class LiveSessions:
    """All but `attach`, `detach` and `catch_up` are for after a commit."""

    def __init__(self, bus: Bus, node: str) -> None:
        self._bus = bus
        self._node = node
        self._live: dict[int, LiveSession] = {}
        self._unsubscribe = bus.subscribe_others(f"mqtt.{node}", self._rung)

    def stop(self) -> None:
        self._unsubscribe()

    def attach(self, held: Held, live: LiveSession) -> None:
        """From now on this connection of this node is told of the session. After the unit of `open` is committed."""
        before = self._live.get(held.session)
        if before is not None and before is not live:
            before.taken_over()
        self._live[held.session] = live

    def detach(self, held: Held, live: LiveSession) -> None:
        if self._live.get(held.session) is live:
            del self._live[held.session]

    def end(self, session: int, connection: int) -> None:
        """Another connection than this one, or an earlier one, has the session."""
        live = self._live.get(session)
        if live is not None and live.connection <= connection:
            del self._live[session]
            live.taken_over()

    def end_at(self, node: str, session: int, connection: int) -> None:
        if node == self._node:
            self.end(session, connection)
        else:
            self._bus.publish(f"mqtt.{node}", f"taken {session} {connection}".encode())

    def show(self, session: int, delivery: Delivery) -> None:
        live = self._live.get(session)
        if live is not None:
            live.show_message(delivery)

    def tell(self, session: int, node: str | None, delivery: Delivery) -> None:
        live = self._live.get(session)
        if live is not None:
            live.told(delivery)
        elif node is not None and node != self._node:
            self._bus.publish(f"mqtt.{node}", f"news {session} {delivery.seq}".encode())

    def ring(self, session: int, newest: int) -> None:
        live = self._live.get(session)
        if live is not None:
            live.has_news(newest)

    def _rung(self, _: str, payload: bytes) -> None:
        what, session, number = payload.decode("ascii").split(" ")
        if what == "taken":
            self.end(int(session), int(number))
        else:
            self.ring(int(session), int(number))

    def rules_changed(self, device_id: str | None = None) -> None:
        """Others hold from now on, of one device or of all."""
        for live in tuple(self._live.values()):
            if device_id in (None, live.device_id):
                live.rules_changed()

    @property
    def held(self) -> dict[int, int]:
        """The connection that holds each session, as this node has it."""
        return {session: live.connection for session, live in self._live.items()}

    def catch_up(self, was: Mapping[int, int], heads: Iterable[Head]) -> None:
        """`heads`: all sessions of this node as the store has them, read after `was`, which is `held` of before."""
        there = {head.session: head for head in heads}
        for session, connection in was.items():
            head = there.get(session)
            if head is None or head.connection > connection:
                self.end(session, connection)
            else:
                self.ring(session, head.last_seq)
