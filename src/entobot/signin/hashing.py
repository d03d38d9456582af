"""Argon2id (RFC 9106) in a few threads, with a short queue: guessing must cost the guesser, not the gateway."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from entobot.core.errors import Code, Problem
from entobot.core.secrets import Entropy, keyed_digest
from entobot.signin.password_rules import normalised

if TYPE_CHECKING:
    from argon2 import PasswordHasher

T = TypeVar("T")
MEMORY_KIB, PASSES, LANES = 19_456, 2, 1
"""OWASP's minimum for Argon2id: 19 MiB a hash, some 30 ms of one core."""
SALT_BYTES = 16
WORKERS = 2
MAX_WAITING, MAX_WAITING_STRANGERS = 24, 12
"""Strangers fill half of the queue: whoever signs in from a known browser still finds a place."""


class Hashing:
    """What is hashed is a keyed digest of the password: a copy of the database alone cannot be tried on a dictionary."""

    def __init__(self, key: bytes, entropy: Entropy) -> None:
        self._key = key
        self._entropy = entropy
        self._pool: ThreadPoolExecutor | None = None
        self._at_work = 0
        self._nobodys: str | None = None

    async def hash(self, password: str) -> str:
        """Argon2's encoded form. Raises `rate_limited` where too many wait."""
        salt, mixed = self._entropy.bytes(SALT_BYTES), self._mixed(password)
        return await self._run(lambda: _hasher().hash(mixed, salt=salt), MAX_WAITING)

    async def verify(self, encoded: str | None, password: str, *, is_known: bool) -> bool:
        """Takes as long where there is nothing to compare with (None). Raises `rate_limited`."""
        mixed = self._mixed(password)

        def compare() -> bool:
            return _is_good(encoded or self._nobody(), mixed) and encoded is not None

        return await self._run(compare, MAX_WAITING if is_known else MAX_WAITING_STRANGERS)

    async def is_outdated(self, encoded: str) -> bool:
        """Whether it was made with other parameters than new ones are."""
        return await asyncio.to_thread(lambda: _hasher().check_needs_rehash(encoded))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], T], most: int) -> T:
        if self._at_work >= most:
            raise Problem(Code.RATE_LIMITED, "Many people sign in at this moment. Try again in a second.")
        if self._pool is None:
            self._pool = ThreadPoolExecutor(WORKERS, "passwords")
        self._at_work += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        future.add_done_callback(self._done)  # not in a `finally`: whoever hangs up leaves the work behind
        return await asyncio.shield(future)

    def _done(self, future: "asyncio.Future[T]") -> None:
        self._at_work -= 1
        if not future.cancelled():
            future.exception()  # of a caller who went away: seen by nobody else

    def _mixed(self, password: str) -> bytes:
        return keyed_digest(self._key, normalised(password).encode("utf-8", "surrogatepass"))

    def _nobody(self) -> str:
        """A hash of nothing that anybody can type, with the parameters of a new one."""
        if self._nobodys is None:
            self._nobodys = _hasher().hash(self._entropy.bytes(32), salt=self._entropy.bytes(SALT_BYTES))
        return self._nobodys


def _hasher() -> "PasswordHasher":
    from argon2 import PasswordHasher  # loaded with the first password

    return PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)


def _is_good(encoded: str, mixed: bytes) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return _hasher().verify(encoded, mixed)
    except (VerificationError, InvalidHashError):
        return False
