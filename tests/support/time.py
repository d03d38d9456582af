"""Time and randomness under the test's control."""

import hashlib


class ManualClock:
    def __init__(self, at_ms: int = 1_790_000_000_000) -> None:
        self.at_ms = at_ms
        self.seconds = 1000.0

    def now_ms(self) -> int:
        return self.at_ms

    def monotonic(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.at_ms += round(seconds * 1000)
        self.seconds += seconds


class SeededEntropy:
    """Deterministic bytes, different at each call."""

    def __init__(self, seed: str = "seed") -> None:
        self._seed = seed
        self._calls = 0

    def bytes(self, count: int) -> bytes:
        self._calls += 1
        return hashlib.shake_256(f"{self._seed}/{self._calls}".encode()).digest(count)
