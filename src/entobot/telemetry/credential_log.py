"""Which addresses show credentials that are not good: written for whoever bans addresses (deploy/fail2ban)."""

from datetime import timedelta

from structlog.typing import FilteringBoundLogger

from entobot.core.clock import Clock

EVENT = "credentials.refused"


class CredentialLog:
    """A line `credentials.refused` with `transport`, `reason` and `address` for each one.

    Bounded: in each `window` at most `per_address` lines of one address and `total` of all; the next line after that
    says how many were left out. Not thread-safe: loop thread only.
    """

    def __init__(
        self,
        log: FilteringBoundLogger,
        clock: Clock,
        *,
        window: timedelta = timedelta(seconds=60),
        per_address: int = 20,
        total: int = 600,
    ) -> None:
        self._log = log
        self._clock = clock
        self._window_s = window.total_seconds()
        self._per_address = per_address
        self._total = total
        self._begun_s = float("-inf")
        self._written: dict[str, int] = {}
        self._count = self._left_out = 0

    def refused(self, transport: str, reason: str, address: str) -> None:
        """`transport` and `reason` are words of ours; `address` is the one that the gateway resolved."""
        now_s = self._clock.monotonic()
        if now_s - self._begun_s >= self._window_s:
            self._begun_s, self._count = now_s, 0
            self._written.clear()
        of_address = self._written.get(address, 0)
        if of_address >= self._per_address or self._count >= self._total:
            self._left_out += 1
            return
        self._written[address] = of_address + 1
        self._count += 1
        left_out, self._left_out = self._left_out, 0
        more = {"suppressed": left_out} if left_out else {}
        self._log.warning(EVENT, transport=transport, reason=reason, address=address, **more)
