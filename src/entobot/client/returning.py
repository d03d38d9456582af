"""When to come back after a connection ended: what its close code asks for, and how long to wait. Pure."""

from dataclasses import dataclass, field
from enum import Enum, auto

from entobot.core.errors import Code, Problem
from entobot.core.secrets import Entropy

NEVER_OPENED = 1006
"""Also the code of a link that broke without a close frame (RFC 6455 §7.1.5)."""
TOKEN_EXPIRED = 4003
NOT_WANTED = 4500
SUSPENDED = 4502
STOP_FROM, STOP_TO = 4500, 4999
SUSPENDED_RETRY_S = 15 * 60.0
_RANDOM_BITS = 32
_NOT_AGAIN = frozenset({Code.REFRESH_INVALID, Code.UNAUTHENTICATED, Code.PROOF_INVALID, Code.FORBIDDEN})


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a connection. `retry_after_s` is the gateway's own word on when to come back."""

    code: int
    reason: str = ""
    retry_after_s: float | None = None
    error: str | None = None
    """The error code, where it was not a close code that ended it."""


class Next(Enum):
    RETURN = auto()
    REFRESH_FIRST = auto()
    WAIT_SUSPENDED = auto()
    STOP = auto()


def next_step(code: int) -> Next:
    """4000-4499 and everything that is not the gateway's own come back; 4500-4999 do not."""
    if code == SUSPENDED:
        return Next.WAIT_SUSPENDED
    if STOP_FROM <= code <= STOP_TO:
        return Next.STOP
    return Next.REFRESH_FIRST if code == TOKEN_EXPIRED else Next.RETURN


@dataclass(slots=True)
class Backoff:
    """Full jitter: a random time below a bound that doubles with each failure."""

    entropy: Entropy
    first_s: float = 0.5
    most_s: float = 60.0
    steady_s: float = 10.0
    """A connection that lasted this long was no failure."""
    failures: int = field(default=0, init=False)

    def delay_s(self, retry_after_s: float | None = None) -> float:
        """How long to wait now. What the gateway said wins; a little is added, for all were told the same."""
        bound_s = min(self.most_s, self.first_s * 2.0 ** min(self.failures, 30))
        self.failures += 1
        if retry_after_s is not None:
            return retry_after_s + self._share() * min(1.0, bound_s)
        return self._share() * bound_s

    def lasted(self, seconds: float) -> None:
        if seconds >= self.steady_s:
            self.failures = 0

    def forget(self) -> None:
        self.failures = 0

    def _share(self) -> float:
        return int.from_bytes(self.entropy.bytes(_RANDOM_BITS // 8), "big") / 2**_RANDOM_BITS


def ended_by(problem: Problem) -> Ended:
    """Why no tokens could be had, as the end of a connection."""
    if problem.code is Code.DEVICE_SUSPENDED:
        return Ended(SUSPENDED, problem.detail)
    if problem.code in _NOT_AGAIN:
        return Ended(NOT_WANTED, problem.detail, error=str(problem.code))
    return Ended(NEVER_OPENED, problem.detail, problem.retry_after_s)


def refused_as(problem: Problem) -> Ended:
    """Why an event stream was not opened: the token may only be older than its time says."""
    if problem.code is Code.UNAUTHENTICATED:
        return Ended(TOKEN_EXPIRED, problem.detail)
    return ended_by(problem)


def causes_of(error: BaseException) -> list[BaseException]:
    """The error and what led to it, the latest first."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return causes
