"""Callbacks of the running gateway: what was asked is described, posted, and noted as taken."""

import asyncio
import logging
import ssl
from datetime import timedelta
from pathlib import Path

from entobot.app.cluster import who_lives
from entobot.app.ground import Ground
from entobot.app.periodic import Periodic
from entobot.approvals.http_requests import request_row
from entobot.approvals.requests import Requests
from entobot.audit.service import Audit
from entobot.callbacks import http
from entobot.callbacks.model import Callback, Kind
from entobot.callbacks.sending import Sender
from entobot.callbacks.service import Callbacks
from entobot.core import topics
from entobot.core.errors import StartupRefused
from entobot.core.networks import Networks
from entobot.outgoing.guarded_http import GuardedHttp
from entobot.questions.rows import question_row
from entobot.questions.service import Questions
from entobot.storage.database import StorageFailed, Transaction
from entobot.web.routes import Api

LOOK_EVERY = timedelta(seconds=5)

log = logging.getLogger("entobot.callbacks")


class Posting:
    def __init__(
        self, ground: Ground, audit: Audit, callbacks: Callbacks, questions: Questions, requests: Requests
    ) -> None:
        settings = ground.settings.callbacks
        for path in (settings.secret_file, settings.authority):
            if path is not None and not path.is_file():
                raise StartupRefused(f"callbacks: {path} is no file.")
        self._ground = ground
        self._callbacks = callbacks
        self._questions = questions
        self._requests = requests
        self._is_running = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._sender = Sender(
            GuardedHttp(Networks(settings.private_networks), lambda: _tls(settings.authority), setting="callbacks"),
            database=ground.database,
            clock=ground.clock,
            audit=audit,
            node_id=ground.node_id,
            alive=who_lives(ground),
            secret_file=settings.secret_file,
            describe=self._describe,
            delivered=self._delivered,
        )
        ground.bus.subscribe(topics.WORK_CALLBACKS, self._rung)

    def add_routes(self, api: Api) -> None:
        http.add_routes(api, self._callbacks, self._ground.database)

    def start(self, periodic: Periodic) -> None:
        self._is_running = True
        periodic.every(LOOK_EVERY, self._look, at_once=True)
        periodic.every(timedelta(hours=1), self._forget)

    async def stop(self) -> None:
        """What is being posted is posted again by the next start: its receiver knows it by its id."""
        self._is_running = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _rung(self, _topic: str, _payload: bytes) -> None:
        if self._is_running and len(self._tasks) <= 1:  # one that works, and one that looks once more after it
            task = asyncio.get_running_loop().create_task(self._look())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _look(self) -> None:
        async with self._turn:
            try:
                await self._sender.sweep()
                await self._sender.look()
            except StorageFailed as failure:
                log.warning("callbacks wait for the store: %s", failure)

    async def _forget(self) -> None:
        await self._callbacks.forget(self._ground.database, self._ground.clock.now_ms())

    def _describe(self, tx: Transaction, one: Callback) -> dict[str, object] | None:
        if one.kind is Kind.QUESTION:
            question = self._questions.find(tx, one.subject)
            return None if question is None else question_row(question)
        outcome = self._requests.find(tx, one.subject)
        return None if outcome is None else request_row(outcome)

    def _delivered(self, tx: Transaction, one: Callback, now_ms: int) -> None:
        outcome = self._requests.find(tx, one.subject) if one.kind is Kind.APPROVAL_REQUEST else None
        if outcome is not None:
            self._requests.take(tx, outcome, now_ms)


def _tls(authority: Path | None) -> ssl.SSLContext:
    """Blocks."""
    made = ssl.create_default_context(cafile=authority)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made
