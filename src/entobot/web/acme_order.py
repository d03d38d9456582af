"""One order for a certificate, from the gateway's side: the process that orders, and what it asks for meanwhile."""

import asyncio
import sys
from contextlib import suppress
from datetime import timedelta

import msgspec

from entobot.web.acme_challenges import Presenter
from entobot.web.acme_words import Done, Failed, Issued, Job, Present, Said, Window, Withdraw

ORDER_WITHIN = timedelta(minutes=30)
QUESTION_WITHIN = timedelta(minutes=2)
WORKER = ("-P", "-m", "entobot.web.acme_worker")
_MAX_LINE_BYTES = 1 << 20


class OrderFailed(Exception):  # noqa: N818  an outcome, told to the operator
    def __init__(self, failed: Failed) -> None:
        super().__init__(f"{failed.kind}: {failed.detail}")
        self.failed = failed


async def order(job: Job, presenter: Presenter) -> str:
    """The PEM chain, leaf first. Raises OrderFailed. What is presented is withdrawn, however it ends."""
    said = await _converse(job, presenter, ORDER_WITHIN)
    if not isinstance(said, Issued):
        raise OrderFailed(Failed("unexpected", "The process that orders said something else."))
    return said.chain


async def renewal_window(job: Job) -> Window:
    """When the authority wants the chain of `job.ask_about` renewed. Raises OrderFailed."""
    said = await _converse(job, None, QUESTION_WITHIN)
    if not isinstance(said, Window):
        raise OrderFailed(Failed("unexpected", "The process that asks said something else."))
    return said


async def _converse(job: Job, presenter: Presenter | None, within: timedelta) -> Said:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *WORKER,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_MAX_LINE_BYTES,
    )
    conversation = _Conversation(process, presenter)
    try:
        async with asyncio.timeout(within.total_seconds()):
            said = await conversation.hold(job)
    except TimeoutError:
        raise OrderFailed(Failed("timeout", f"It was not done within {within}.")) from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        await conversation.clear()
    if isinstance(said, Failed):
        raise OrderFailed(said)
    return said


class _Conversation:
    def __init__(self, process: asyncio.subprocess.Process, presenter: Presenter | None) -> None:
        self._process = process
        self._presenter = presenter
        self._shown: Present | None = None

    async def hold(self, job: Job) -> Said:
        """Until it has ended; its last word."""
        await self._say(job)
        while True:
            said = await self._hear()
            if isinstance(said, Present) and self._presenter is not None:
                self._shown = said
                await self._say(Done(await self._presenter.present(said)))
            elif isinstance(said, Withdraw):
                await self.clear()
                await self._say(Done())
            else:
                return said

    async def clear(self) -> None:
        shown, self._shown = self._shown, None
        if shown is not None and self._presenter is not None:
            await self._presenter.withdraw(shown)

    async def _say(self, said: Job | Done) -> None:
        assert self._process.stdin is not None
        with suppress(ConnectionError):  # it has ended: what it said last is still to be read
            self._process.stdin.write(msgspec.json.encode(said) + b"\n")
            await self._process.stdin.drain()

    async def _hear(self) -> Said:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            return Failed("unexpected", "The process that orders ended without a word; its error is in the log.")
        return msgspec.json.decode(line, type=Said)
