from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entobot.audit.events import AuditEvent
from entobot.audit.note import NoteSigner
from entobot.audit.service import Audit
from entobot.core.ids import RandomIds
from entobot.core.permissions import ALL_SCOPES
from entobot.core.principal import Principal
from entobot.storage.database import Database
from tests.support import stores
from tests.support.loop_guard import LoopGuard
from tests.support.signing import TestSigner
from tests.support.time import ManualClock, SeededEntropy

NOTES = NoteSigner(b"n" * 32)
OWNER = Principal("usr_owner", ALL_SCOPES, "dev_phone")


class Log:
    """An audit log in a real database, and a hand that can reach into the file behind its back."""

    def __init__(self, database: Database, clock: ManualClock, folder: Path) -> None:
        self.database = database
        self.clock = clock
        self.folder = folder
        self.file = folder / "audit.head"
        self.signer = TestSigner()
        self.audit = self.reopen()

    def reopen(self, signer: TestSigner | None = None) -> Audit:
        """The log as the next start of the gateway sees it."""
        entropy = SeededEntropy(f"audit{self.clock.at_ms}")
        ids = RandomIds(self.clock, entropy)
        self.audit = Audit(
            ids=ids, entropy=entropy, signer=signer or self.signer, head_file=self.file, notes=NOTES, every=4
        )
        return self.audit

    async def start(self) -> None:
        self.clock.advance(1)
        self.reopen()
        await self.audit.start(self.database.write, self.clock.now_ms())

    async def seal(self) -> None:
        await self.audit.seal(self.database.write, self.clock.now_ms())

    async def record(self, count: int = 1, event: AuditEvent = AuditEvent.DEVICE_RENAMED, **given: object) -> None:
        values = {"actor": OWNER, "subject": "dev_1", "facts": {"by": "test", "n": 1, "late": False}} | given
        for _ in range(count):
            self.clock.advance(1)
            at = self.clock.now_ms()
            await self.database.write(lambda tx, at=at: self.audit.record(tx, event, now_ms=at, **values))  # pyright: ignore[reportArgumentType]  one way to call for all tests

    def tamper(self, sql: str, *values: object) -> None:
        assert stores.change(self.folder, sql, *values) != 0, "tampering that touches nothing proves nothing"

    def change(self, sql: str, *values: object) -> None:
        stores.change(self.folder, sql, *values)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        return stores.ask(self.folder, sql)

    async def verify(self, progress: Callable[[int, int], None] | None = None):  # noqa: ANN201
        return await self.audit.verify(self.database.read, progress)

    async def finding(self) -> tuple[str, int] | None:
        found = (await self.verify()).finding
        return None if found is None else (found.kind, found.seq)


@pytest.fixture(autouse=True)
def _nothing_blocks(loop_guard: LoopGuard) -> None:  # pyright: ignore[reportUnusedFunction]  taken by pytest
    """Signing, verifying and the head file stay off the event loop."""


@pytest.fixture
async def log(database: Database, clock: ManualClock, tmp_path: Path) -> Log:
    return Log(database, clock, tmp_path)
