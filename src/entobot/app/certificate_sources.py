"""Where the next certificate comes from: files that somebody else renews, or this machine's own authority."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from entobot.app.certificate import Certificate, load_given_files, load_local
from entobot.config import Settings
from entobot.core.clock import Clock
from entobot.core.secrets import Entropy
from entobot.home import Home

Signature = tuple[tuple[int, int, int], ...]
"""Of each file its inode, size and modification time in nanoseconds; zeros where there is none."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the last try for a certificate did not work, for the person who can put it right."""

    at_ms: int
    text: str


class Source(Protocol):
    every: timedelta
    """How often to look."""

    async def find(self, served: Certificate, *, is_asked: bool) -> Certificate | None:
        """A certificate to serve from now on, or None. `is_asked`: a person wants one now.

        Raises StartupRefused, saying what to do; what is served stays.
        """
        ...

    def remembered(self) -> Failure | None:
        """What went wrong last before this start."""
        ...

    def waits_for(self, served: Certificate) -> str:
        """What is still to come before a certificate of this source is served; empty when it is."""
        ...

    def renews_at_ms(self, served: Certificate) -> int | None:
        """When it will be renewed; None where somebody else does it."""
        ...


class _AtOnce:
    """Of sources that have a certificate from the start."""

    def remembered(self) -> Failure | None:
        return None

    def waits_for(self, served: Certificate) -> str:  # noqa: ARG002  the port's signature
        return ""


class GivenFiles(_AtOnce):
    """Looks at the files' times; reads them when those have changed, and each version once."""

    every = timedelta(seconds=10)

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._seen: Signature | None = None

    async def find(self, served: Certificate, *, is_asked: bool) -> Certificate | None:
        return await asyncio.to_thread(self._find, served, is_asked=is_asked)

    def _find(self, served: Certificate, *, is_asked: bool) -> Certificate | None:
        signature = _signature(self._settings.tls.certificate, self._settings.tls.key)
        if signature == self._seen and not is_asked:
            return None
        self._seen = signature
        found = load_given_files(self._settings, self._clock.now_ms())
        return None if found.fingerprint == served.fingerprint else found

    def renews_at_ms(self, served: Certificate) -> int | None:  # noqa: ARG002  the port's signature
        return None


def _signature(*paths: Path | None) -> Signature:
    """Links are followed: ACME clients and Kubernetes move a link to the new file."""
    found: list[tuple[int, int, int]] = []
    for path in paths:
        try:
            status = None if path is None else path.stat()
        except OSError:
            status = None
        found.append((0, 0, 0) if status is None else (status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


class LocalAuthority(_AtOnce):
    """Renews the leaf by itself when a third of its life is left or this machine has another address."""

    every = timedelta(hours=6)

    def __init__(self, home: Home, clock: Clock, entropy: Entropy) -> None:
        self._load: Callable[[], Certificate] = lambda: load_local(home, clock.now_ms(), entropy)

    async def find(self, served: Certificate, *, is_asked: bool) -> Certificate | None:  # noqa: ARG002  the port's signature
        found = await asyncio.to_thread(self._load)
        return None if found.fingerprint == served.fingerprint else found

    def renews_at_ms(self, served: Certificate) -> int | None:
        life_ms = served.description.not_after_ms - served.not_before_ms
        return served.description.not_after_ms - life_ms // 3
