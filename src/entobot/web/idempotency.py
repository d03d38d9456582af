"""`Idempotency-Key`: a write whose answer was lost can be sent again without happening twice.

Order: 1. claim the key (committed) · 2. run the handler, which commits its own effect · 3. store the answer.
A crash between 2 and 3 leaves a claim without an answer. Nobody can know then whether the effect happened, so a
repeat is never executed: it is told that the outcome is unknown. While the claim may still be running (in this
process: waited for; in another: for LEASE) a repeat is told to come back.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, bindparam, delete, select, update
from starlette.requests import Request
from starlette.responses import Response

from entobot.core.clock import Clock, to_ms
from entobot.core.errors import Code, Problem
from entobot.core.principal import Principal
from entobot.core.secrets import Entropy, b64u, same, sha256
from entobot.storage.database import Database, Row, StorageFailed, Transaction, metadata
from entobot.storage.upsert import upsert
from entobot.web.problems import as_problem, problem_response

KEPT = timedelta(hours=24)
LEASE = timedelta(seconds=60)
WAIT = timedelta(seconds=20)
"""How long a duplicate waits for the first request in the same process."""

MAX_KEY_CHARACTERS = 255

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("scope_digest", Text, primary_key=True),
    Column("request_digest", Text, nullable=False),
    Column("claimed_by", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("status", Integer),
    Column("media_type", Text),
    Column("body", Text),
    Index("idempotency_keys_age", "created_at_ms"),
)

_keys = idempotency_keys.c
_CLAIM = upsert(idempotency_keys).on_conflict_do_nothing(index_elements=["scope_digest"])
_FIND = select(idempotency_keys).where(_keys.scope_digest == bindparam("which"))
_STORE = (
    update(idempotency_keys)
    .where(_keys.scope_digest == bindparam("which"), _keys.claimed_by == bindparam("owner"), _keys.status.is_(None))
    .values(status=bindparam("new_status"), media_type=bindparam("new_media_type"), body=bindparam("new_body"))
)
_RELEASE = delete(idempotency_keys).where(
    _keys.scope_digest == bindparam("which"), _keys.claimed_by == bindparam("owner"), _keys.status.is_(None)
)
_EXPIRE_ONE = delete(idempotency_keys).where(
    _keys.scope_digest == bindparam("which"), _keys.created_at_ms <= bindparam("before")
)
_OLDEST = (
    select(_keys.created_at_ms)
    .where(_keys.created_at_ms <= bindparam("before"))
    .order_by(_keys.created_at_ms)
    .limit(bindparam("count"))
)
_EXPIRE = delete(idempotency_keys).where(_keys.created_at_ms <= bindparam("upto"))
EXPIRED_AT_ONCE = 500

RELEASING = frozenset({401, 403, 422, 429, 503})
"""Refusals that come before any effect and may turn out differently next time: the key stays free for the repeat."""

_log = structlog.get_logger(__name__)

Redact = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Keyed:
    """One request with a key. `scope` digests credential, method, path and key; `request` digests query and body."""

    scope: str
    request: str


@dataclass(frozen=True, slots=True)
class _Running:
    request: str
    task: "asyncio.Future[Response]"


@dataclass(frozen=True, slots=True)
class _Stored:
    """The row of an earlier request; `status` None while it has no answer."""

    request: str
    claimed_by: str
    created_at_ms: int
    status: int | None
    media_type: str
    body: str


def keyed(principal: Principal, request: Request, body: bytes) -> Keyed:
    """Raises `invalid` for a key that is not 1 to 255 visible ASCII characters."""
    key = ",".join(request.headers.getlist("idempotency-key"))
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS or not all("!" <= character <= "~" for character in key):
        raise Problem(Code.INVALID, f"An Idempotency-Key is 1 to {MAX_KEY_CHARACTERS} visible ASCII characters.")
    query: bytes = request.scope["query_string"]
    scope = [principal.user_id, principal.device_id or principal.session_id, request.method, request.scope["path"], key]
    request_digest = sha256(b"%d:%b%b" % (len(query), query, body))
    return Keyed(b64u(sha256(json.dumps(scope).encode())), b64u(request_digest))


class Idempotency:
    """Runs keyed writes at most once. One per process: `instance` tells its claims from those of others."""

    def __init__(self, database: Database, clock: Clock, entropy: Entropy) -> None:
        self._database = database
        self._clock = clock
        self._instance = b64u(entropy.bytes(12))
        self._running: dict[str, _Running] = {}

    async def run(self, what: Keyed, execute: Callable[[], Awaitable[Response]], redact: Redact | None) -> Response:
        """The answer of `execute`, or the stored answer of the request that had this key before.

        Raises Problem: `idempotency_mismatch` (another request, or an outcome nobody knows), `rate_limited` (still
        running), and whatever `execute` raises.
        """
        while (running := self._running.get(what.scope)) is not None and not running.task.done():
            if not same(running.request, what.request):
                raise _other_request()
            await asyncio.wait([running.task], timeout=WAIT.total_seconds())
            if not running.task.done():
                raise _still_running()
        task = asyncio.ensure_future(self._claim_and_execute(what, execute, redact))
        self._running[what.scope] = _Running(what.request, task)
        task.add_done_callback(_retrieve)
        # A caller that goes away must not stop the request between its effect and its stored answer.
        return await asyncio.shield(task)

    async def sweep(self) -> int:
        """Forget keys older than KEPT; returns how many. To be called now and then by the maintenance loop."""
        before = self._clock.now_ms() - to_ms(KEPT)
        total = 0
        while took := await self._database.write(lambda tx: _expire_some(tx, before)):  # the writer is everybody's
            total += took
        return total

    async def _claim_and_execute(
        self, what: Keyed, execute: Callable[[], Awaitable[Response]], redact: Redact | None
    ) -> Response:
        try:
            earlier = await self._claim(what)
            if earlier is None:
                return await self._execute(what.scope, execute, redact)
            return self._answer_again(what, earlier)
        finally:
            self._running.pop(what.scope, None)

    async def _claim(self, what: Keyed) -> _Stored | None:
        """None when this request now owns the key."""
        now = self._clock.now_ms()
        row = {
            "scope_digest": what.scope,
            "request_digest": what.request,
            "claimed_by": self._instance,
            "created_at_ms": now,
        }

        def unit(tx: Transaction) -> _Stored | None:
            tx.run(_EXPIRE_ONE, {"which": what.scope, "before": now - to_ms(KEPT)})
            return None if tx.run(_CLAIM, row) == 1 else _stored(tx.first(_FIND, {"which": what.scope}))

        return await self._database.write(unit)

    def _answer_again(self, what: Keyed, earlier: _Stored) -> Response:
        if not same(earlier.request, what.request):
            raise _other_request()
        if earlier.status is not None:
            return _replay(earlier.status, earlier.media_type, earlier.body)
        # Requests of this process are waited for in `run`, so a claim of its own without an answer was interrupted.
        is_own = same(earlier.claimed_by, self._instance)
        if not is_own and self._clock.now_ms() - earlier.created_at_ms < to_ms(LEASE):
            raise _still_running()
        raise Problem(
            Code.IDEMPOTENCY_MISMATCH,
            "An earlier request with this Idempotency-Key was interrupted, and nobody knows whether it took effect. "
            "Look at the present state; if it did not, repeat it with a new key.",
            extra={"outcome": "unknown"},
        )

    async def _execute(self, scope: str, execute: Callable[[], Awaitable[Response]], redact: Redact | None) -> Response:
        try:
            response = await execute()
        except Exception as error:
            # A defect may have struck before or after the effect: then the claim stays, without an answer.
            problem = as_problem(error)
            if problem is not None:
                await self._keep(scope, problem_response(problem), None)
            raise
        await self._keep(scope, response, redact)
        return response

    async def _keep(self, scope: str, response: Response, redact: Redact | None) -> None:
        owner = {"which": scope, "owner": self._instance}
        if response.status_code in RELEASING:
            await self._settle(lambda tx: tx.run(_RELEASE, owner))
            return
        body = bytes(response.body).decode("utf-8")
        if redact is not None and response.status_code < 300:
            body = json.dumps(redact(json.loads(body)), ensure_ascii=False, separators=(",", ":"))
        answer = {
            "new_status": response.status_code,
            "new_media_type": response.headers.get("content-type", ""),
            "new_body": body,
        }
        await self._settle(lambda tx: tx.run(_STORE, owner | answer))

    async def _settle(self, unit: Callable[[Transaction], int]) -> None:
        try:
            await self._database.write(unit)
        except StorageFailed:
            # The effect is committed and its answer is right; only a repeat will hear that the outcome is unknown.
            _log.warning("web.idempotency_answer_not_stored")


def _expire_some(tx: Transaction, before_ms: int) -> int:
    """Some of the oldest, and what bears the same time as the last of them."""
    oldest = tx.rows(_OLDEST, {"before": before_ms, "count": EXPIRED_AT_ONCE})
    return tx.run(_EXPIRE, {"upto": oldest[-1]["created_at_ms"]}) if oldest else 0


def _retrieve(task: asyncio.Future[Response]) -> None:
    """Its caller may be gone; then nobody else asks for the exception."""
    if not task.cancelled():
        task.exception()


def _other_request() -> Problem:
    return Problem(
        Code.IDEMPOTENCY_MISMATCH,
        "This Idempotency-Key was used for another request. Take a new key for each new request.",
    )


def _still_running() -> Problem:
    return Problem(Code.RATE_LIMITED, "The first request with this Idempotency-Key is still running.", retry_after_s=1)


def _stored(row: Row | None) -> _Stored | None:
    if row is None:
        return None
    return _Stored(
        row["request_digest"],
        row["claimed_by"],
        row["created_at_ms"],
        row["status"],
        row["media_type"] or "",
        row["body"] or "",
    )


def _replay(status: int, media_type: str, body: str) -> Response:
    headers = {"idempotency-replayed": "true"}
    if media_type:
        headers["content-type"] = media_type
    return Response(body.encode("utf-8"), status, headers)
