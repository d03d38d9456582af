"""A unit that waits for its turn, then its outcome: what both adapters have in common."""

from collections.abc import Callable
from typing import Any

from entobot.storage.database import Chain, Transaction, Unit


class Job:
    __slots__ = ("_chain", "_unit", "callbacks", "error", "result")

    def __init__(self, unit: Unit[Any], chain: Chain | None = None) -> None:
        self._unit = unit
        self._chain = chain
        self.result: Any = None
        self.error: BaseException | None = None
        self.callbacks: list[Callable[[], None]] = []

    def run(self, transaction: Transaction) -> None:
        """Raises what the unit raises, and StorageFailed behind a failed one of its chain."""
        if self._chain is not None:
            self._chain.check(self)
        self.result = self._unit(transaction)

    def end(self, error: BaseException | None) -> None:
        """What became of it, until the commit or another try says otherwise."""
        self.error = error
        if self._chain is not None:
            self._chain.note(self, error)
