"""Sign the head of the log now and then, and keep the newest signed head in a file beside the database."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol, TypeVar

from entobot.audit import store
from entobot.audit.model import Head, head_payload, parse_head
from entobot.audit.signer import HeadSigner
from entobot.core.errors import StartupRefused
from entobot.core.secrets import same
from entobot.home import read_private, write_private
from entobot.storage.database import Transaction, Unit
from entobot.telemetry.log import get_logger

T = TypeVar("T")


class RunUnit(Protocol):
    """`Database.write` or `Database.read`."""

    def __call__(self, unit: Unit[T], /) -> Awaitable[T]: ...


class BadHead(Exception):  # noqa: N818  reads as what was found
    """The signed head in the file is none of ours."""


class HeadKeeper:
    """Never signs over evidence: as long as the log does not contain what was signed last, nothing is signed anew,
    so that the older head goes on showing what was cut or rewritten.
    """

    def __init__(self, signer: HeadSigner | None, file: Path | None, every: int) -> None:
        self.signer = signer
        self.file = file
        self._every = every
        self._last: Head | None = None
        self.refusal = ""
        """Why nothing is signed any more; empty while all is well."""
        self._unwritten: str | None = None
        self._writing: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Read what was signed last, before the first entry is written."""
        try:
            self._last = await asyncio.to_thread(self.read_file)
        except BadHead as error:
            self._refuse(str(error))

    def read_file(self) -> Head | None:
        """The signed head in the file; None without a file or a signer. Raises BadHead. Blocking."""
        if self.signer is None or self.file is None:
            return None
        try:
            jws = read_private(self.file)
            return None if jws is None else parse_head(self.signer.verify_head(jws.decode("ascii").strip()))
        except (ValueError, OSError, StartupRefused) as error:
            raise BadHead(f"the signed head in {self.file.name} is not valid") from error

    def is_due(self, seq: int) -> bool:
        return self.signer is not None and seq % self._every == 0

    def sign(self, tx: Transaction, head: Head, now_ms: int) -> None:
        """Sign `head` in the unit that made it; the file follows after the commit."""
        if self.signer is None or head.seq == 0 or self.refusal:
            return
        last = self._last
        if last is not None and not _contains(tx, head, last):
            self._refuse(f"entry {last.seq}, which was signed, is not in the log any more")
            return
        jws = self.signer.sign_head(head_payload(head, now_ms))
        store.insert_signed_head(tx, head.seq, jws)
        tx.after_commit(lambda: self._keep(head, jws))

    async def drain(self) -> None:
        """Wait until the file holds the newest signed head."""
        if self._writing is not None:
            await self._writing

    def _keep(self, head: Head, jws: str) -> None:
        self._last = head
        if self.file is None:
            return
        self._unwritten = jws
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write(self.file), name="audit head")

    async def _write(self, file: Path) -> None:
        while (jws := self._unwritten) is not None:
            self._unwritten = None
            try:
                await asyncio.to_thread(write_private, file, jws.encode("ascii") + b"\n")
            except OSError as error:
                get_logger("audit").error("audit.head_not_written", file=file.name, reason=error.strerror)

    def _refuse(self, reason: str) -> None:
        self.refusal = reason
        get_logger("audit").error(
            "audit.not_signed",
            reason=reason,
            todo="Run 'entobot audit verify'. After a restore on purpose, move the head file away and restart.",
        )


def _contains(tx: Transaction, head: Head, last: Head) -> bool:
    # The hash of every entry goes back to the log's id: the same hash is the same log.
    found = head.hash if last.seq == head.seq else store.find_hash(tx, last.seq)
    return found is not None and same(found, last.hash)
