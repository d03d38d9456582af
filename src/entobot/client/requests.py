"""Signed HTTP requests of a paired device, and its tokens: refreshed before they end, by one process at a time."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any

import httpx

from entobot.client.answers import answer
from entobot.client.identity import Identity, IdentityStore
from entobot.client.proofs import dpop_proof
from entobot.client.reach import Reach
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.ids import ulid
from entobot.core.secrets import Entropy

REFRESH_MARGIN_MS = 60_000
SUPERSEDED_PAUSE_S = 0.2
LOCK_AGAIN_S = 0.05


class Requests:
    """`identity` is what the store holds, as far as this process knows."""

    def __init__(self, identity: Identity, store: IdentityStore, reach: Reach, clock: Clock, entropy: Entropy) -> None:
        self.identity = identity
        self.offset_ms = 0
        self._store = store
        self._reach = reach
        self._clock = clock
        self._entropy = entropy
        self._refreshing = asyncio.Lock()

    # -- time and ids

    def now_ms(self) -> int:
        """By the gateway's clock, as far as it is known."""
        return self._clock.now_ms() + self.offset_ms

    def gateway_clock(self, at_ms: int) -> None:
        """The gateway says that it is now `at_ms`."""
        self.offset_ms = at_ms - self._clock.now_ms()

    async def has_learnt_time(self, offset_ms: int) -> bool:
        """Whether the gateway's clock is another than at `offset_ms`: it tells the time to whose proof is stale."""
        with suppress(Problem, OSError, httpx.TransportError):
            await self.refresh(unless_newer_than=self.identity.access_token)
        return self.offset_ms != offset_ms

    def new_id(self) -> str:
        return ulid(self._clock.now_ms(), self._entropy.bytes(10))

    def proof(self, method: str, path: str, token: str | None = None, nonce: str | None = None) -> str:
        return dpop_proof(
            self.identity.key,
            method=method,
            url=self.identity.origin + path,
            now_ms=self.now_ms(),
            entropy=self._entropy,
            access_token=token,
            nonce=nonce,
        )

    # -- requests

    async def send(
        self, method: str, path: str, *, extra_headers: dict[str, str] | None = None, **options: Any
    ) -> dict[str, Any]:
        """The JSON answer. Raises Problem; OSError and httpx.TransportError when nobody answers."""

        async def once() -> dict[str, Any]:
            headers = await self.headers(method, path) | (extra_headers or {})
            return answer(await (await self._reach.http()).request(method, path, headers=headers, **options))

        return await self._retried(once)

    @asynccontextmanager
    async def stream(self, path: str, **options: Any) -> AsyncGenerator[httpx.Response]:
        """A GET whose body is read as it comes. Raises as `send`."""
        headers = await self.headers("GET", path)
        async with (await self._reach.http()).stream("GET", path, headers=headers, **options) as response:
            if response.status_code != 200:
                await response.aread()
                answer(response)
            yield response

    async def headers(self, method: str, path: str) -> dict[str, str]:
        token = await self.token()
        return {"Authorization": f"DPoP {token}", "DPoP": self.proof(method, path, token)}

    # -- tokens

    async def token(self) -> str:
        """An access token that has a minute left."""
        if self._is_due(self.identity):
            await self.refresh()
        return self.identity.access_token

    async def refresh(self, *, unless_newer_than: str | None = None) -> None:
        """New tokens. Nothing is asked when another process, or another task, has fetched newer ones meanwhile.

        `unless_newer_than` is the access token that was refused although its time is not over.
        """
        async with self._refreshing:
            if not self._is_due(self.identity) and self.identity.access_token != unless_newer_than:
                return
            try:
                await self._refresh_alone(unless_newer_than)
            except Problem as problem:
                if problem.code is not Code.REFRESH_SUPERSEDED:
                    raise
                await asyncio.sleep(SUPERSEDED_PAUSE_S)  # somebody else has the newer one, and is about to store it
                await self._refresh_alone(unless_newer_than)

    async def _refresh_alone(self, refused_token: str | None) -> None:
        while (lock := self._store.try_lock()) is None:  # noqa: ASYNC110  who holds it may be another process
            await asyncio.sleep(LOCK_AGAIN_S)
        with lock:
            stored = await asyncio.to_thread(self._store.load)
            if stored is not None and stored.key.thumbprint == self.identity.key.thumbprint:
                self.identity = stored
            if not self._is_due(self.identity) and self.identity.access_token != refused_token:
                return
            body = {"refresh_token": self.identity.refresh_token}
            path = "/api/v1/auth/refresh"

            async def once() -> dict[str, Any]:
                http = await self._reach.http()
                return answer(await http.post(path, json=body, headers={"DPoP": self.proof("POST", path)}))

            self.identity = self.identity.renewed(await self._retried(once), self.now_ms())
            await asyncio.to_thread(self._store.save, self.identity)

    def _is_due(self, identity: Identity) -> bool:
        return not identity.access_token or identity.expires_at_ms - REFRESH_MARGIN_MS < self.now_ms()

    async def _retried(self, send: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """Once more after `proof_stale`, with the gateway's clock."""
        try:
            return await send()
        except Problem as problem:
            server_time = problem.extra.get("server_time")
            if problem.code is not Code.PROOF_STALE or not isinstance(server_time, str):
                raise
            self.gateway_clock(round(datetime.fromisoformat(server_time).timestamp() * 1000))
            return await send()
