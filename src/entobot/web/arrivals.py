"""One accepted connection: whose it is, and which of the bounded places it holds."""

from collections.abc import Callable
from typing import Protocol

from entobot.web.addresses import address_key
from entobot.web.unix_socket import LocalPeer

ARRIVAL = "entobot.arrival"
"""Key in uvicorn's `app_state`, by which an upgraded connection learns whose it is."""


class Caps(Protocol):
    """`gateway.limits.CountCaps`: how many a key, and all together, may hold."""

    def try_take(self, key: str) -> bool: ...
    def release(self, key: str) -> None: ...


class Seat(Protocol):
    def leave(self) -> None: ...


class Waiting(Protocol):
    """`gateway.limits.WaitingRoom`: connections whose request is not complete yet."""

    def enter(self, key: str | None, evict: Callable[[], None]) -> Seat | None: ...


class Arrival:
    """`address` is whose requests these are, as far as the connection says so: the peer's own, or the one that a
    PROXY header named; "" over the local socket. `speaks_for_others`: a trusted proxy, whose requests name their
    callers one by one. `cut` ends the connection at once; it must not raise.
    """

    __slots__ = ("_counted", "_cut", "_per_address", "_seat", "_waiting", "address", "local_peer", "speaks_for_others")

    def __init__(
        self,
        address: str,
        *,
        waiting: Waiting | None,
        per_address: Caps | None,
        cut: Callable[[], None],
        speaks_for_others: bool = False,
        local_peer: LocalPeer | None = None,
    ) -> None:
        self.address = address
        self.speaks_for_others = speaks_for_others
        self.local_peer = local_peer
        self._waiting = waiting
        self._per_address = per_address
        self._cut = cut
        self._seat: Seat | None = None
        self._counted: str | None = None

    def wait(self) -> bool:
        """Take a place among those whose request is not complete, unless it holds one. False when there is none."""
        if self._waiting is not None and self._seat is None:
            key = None if self.speaks_for_others else address_key(self.address)
            self._seat = self._waiting.enter(key, self._cut)
            return self._seat is not None
        return True

    def has_asked(self) -> None:
        """The request is complete, or the connection is over. Idempotent."""
        seat, self._seat = self._seat, None
        if seat is not None:
            seat.leave()

    def count(self) -> bool:
        """Count it as one of its address's connections until `over`. False when the address has its fill."""
        if self._per_address is None or self._counted is not None:
            return True
        key = address_key(self.address)
        if not self._per_address.try_take(key):
            return False
        self._counted = key
        return True

    def over(self) -> None:
        """Give everything back. Idempotent."""
        self.has_asked()
        counted, self._counted = self._counted, None
        if counted is not None and self._per_address is not None:
            self._per_address.release(counted)
