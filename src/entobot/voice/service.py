"""Use cases of voice: a whole file that is a recording becomes text, and goes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.service import Audit
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.files.model import File, readable
from entobot.files.service import Files
from entobot.storage.database import Database, Transaction
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric
from entobot.voice.model import EXTENSIONS, checked_text
from entobot.voice.transcriber import NotTranscribed, Recording, Transcriber

AT_ONCE = 2
"""Of one node: a program of this machine takes a core."""
MAX_WAITING = 8


@dataclass(frozen=True, slots=True)
class Terms:
    """`why` says in a sentence why there is no voice; empty where there is."""

    why: str
    max_bytes: int
    max_length_s: float
    keeps_audio: bool


@dataclass(frozen=True, slots=True)
class Transcript:
    """`file_id` is the recording where it is kept for the message."""

    text: str
    file_id: str | None


class Voice:
    """`transcriber` None: there is no voice here."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        audit: Audit,
        files: Files,
        meters: Meters,
        transcriber: Transcriber | None,
        terms: Terms,
        guard: Callable[[Transaction, Principal], None],
    ) -> None:
        self.terms = terms
        self._database = database
        self._clock = clock
        self._audit = audit
        self._files = files
        self._meters = meters
        self._transcriber = transcriber
        self._guard = guard
        self._places = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def transcribe(self, principal: Principal, file_id: str) -> Transcript:
        """The text of a recording that this device has sent and no message has. Then the recording is deleted, unless
        it is kept for the message. Where there is no text it stays, to be tried again.

        Raises `voice_unavailable`, `not_found`, `file_not_whole`, `type_refused`, `too_large`, `rate_limited`,
        `transcription_failed`.
        """
        principal.require(Scope.CHAT)
        if self._transcriber is None:
            raise Problem(Code.VOICE_UNAVAILABLE, self.terms.why)
        found = await self._database.write(lambda tx: self._admit(tx, principal, file_id), principal.user_id)
        if isinstance(found, Problem):
            self._meters.histogram(Metric.TRANSCRIPTION_SECONDS, outcome=found.code).observe(0)
            await self._files.erase(self._database, file_id)
            raise found
        text = checked_text(await self._ask(self._transcriber, found))
        await self._database.write(lambda tx: self._close(tx, principal, found), principal.user_id)
        if self.terms.keeps_audio:
            return Transcript(text, file_id)
        await self._files.erase(self._database, file_id)
        return Transcript(text, None)

    def _admit(self, tx: Transaction, principal: Principal, file_id: str) -> File | Problem:
        """A returned problem says that the recording was dropped, and why."""
        self._guard(tx, principal)
        file = self._files.loose(tx, principal, file_id)
        if file.media_type not in EXTENSIONS:
            said = f"This is no recording that can be transcribed; it looks like {file.media_type}."
            problem = Problem(Code.TYPE_REFUSED, said)
        elif file.size > self.terms.max_bytes:
            said = f"A recording may have {readable(self.terms.max_bytes)}; this one has {readable(file.size)}."
            problem = Problem(Code.TOO_LARGE, said)
        else:
            return file
        self._files.refuse(tx, principal, file, problem.code, self._clock.now_ms())
        return problem

    async def _ask(self, transcriber: Transcriber, file: File) -> str:
        if self._waiting >= MAX_WAITING:
            raise Problem(Code.RATE_LIMITED, "Too many recordings wait. Try again in a moment.", retry_after_s=5)
        begun_s, outcome = self._clock.monotonic(), "ok"
        self._waiting += 1
        try:
            async with self._places:
                content = self._files.content(self._database, file)
                return await transcriber.transcribe(Recording(file.media_type, file.size, content))
        except NotTranscribed as failure:
            outcome = str(failure.fault)
            raise Problem(Code.TRANSCRIPTION_FAILED, failure.said) from None
        except LookupError:
            outcome = "gone"
            raise Problem(Code.NOT_FOUND, "The recording was deleted meanwhile.") from None
        finally:
            self._waiting -= 1
            spent_s = self._clock.monotonic() - begun_s
            self._meters.histogram(Metric.TRANSCRIPTION_SECONDS, outcome=outcome).observe(spent_s)

    def _close(self, tx: Transaction, principal: Principal, file: File) -> None:
        """What was said is nowhere in the log."""
        now_ms = self._clock.now_ms()
        if not self.terms.keeps_audio:
            self._files.drop(tx, file.file_id)
        facts = {"media_type": file.media_type, "size": file.size, "is_kept": self.terms.keeps_audio}
        self._audit.record(
            tx,
            AuditEvent.VOICE_TRANSCRIBED,
            now_ms=now_ms,
            outcome=Outcome.SUCCESS,
            actor=principal,
            subject=file.file_id,
            facts=facts,
        )
