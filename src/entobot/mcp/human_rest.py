"""People behind a gateway, reached by its REST API: with a token, or as the owner over the local socket."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from entobot.client.answers import answer
from entobot.client.trust import Trust
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.mcp.human import Row
from entobot.web.unix_socket import no_tls, short_socket_path

MAX_WAIT_S = 30.0
"""The longest wait that the route offers."""
TIMEOUT_S = MAX_WAIT_S + 10
AGAIN_AFTER_S = 2.0
"""A gateway that restarts is away for seconds; what waits for an answer waits on."""
QUESTIONS = "/api/v1/questions"
REQUESTS = "/api/v1/approval-requests"


class RestHuman:
    def __init__(self, http: httpx.AsyncClient, clock: Clock) -> None:
        self._http = http
        self._clock = clock

    async def notify(self, note: Mapping[str, object]) -> Row:
        return await self.send("POST", "/api/v1/notifications", json=note)

    async def ask(self, question: Mapping[str, object]) -> Row:
        return await self.send("POST", QUESTIONS, json=question)

    async def look(self, question_id: str, wait_s: float) -> Row:
        return await self._wait(f"{QUESTIONS}/{question_id}", wait_s)

    async def take_back(self, question_id: str) -> Row:
        return await self.send("DELETE", f"{QUESTIONS}/{question_id}")

    async def request(self, wish: Mapping[str, object]) -> Row:
        return await self.send("POST", "/api/v1/approvals", json=wish)

    async def look_at_request(self, request_id: str, wait_s: float) -> Row:
        return await self._wait(f"{REQUESTS}/{request_id}", wait_s)

    async def take_back_request(self, request_id: str) -> Row:
        return await self.send("DELETE", f"{REQUESTS}/{request_id}")

    async def _wait(self, path: str, wait_s: float) -> Row:
        """A gateway that goes away meanwhile is asked again until the time is over."""
        until_s = self._clock.monotonic() + wait_s
        while True:
            left_s = until_s - self._clock.monotonic()
            query = {"wait_s": max(0.0, min(left_s, MAX_WAIT_S))}
            try:
                return await self.send("GET", path, params=query)
            except Problem as problem:
                if not problem.retry or left_s <= 0:
                    raise
                await asyncio.sleep(min(problem.retry_after_s or AGAIN_AFTER_S, max(0.0, left_s)))

    async def send(self, method: str, path: str, **options: object) -> Row:
        """Any request; the options are httpx's. Raises Problem."""
        try:
            return answer(await self._http.request(method, path, **options))  # pyright: ignore[reportArgumentType]  of httpx
        except (httpx.TransportError, OSError) as error:
            said = f"The gateway at {self._http.base_url} does not answer ({type(error).__name__}). Is it running?"
            raise Problem(Code.DRAINING, said) from None


@asynccontextmanager
async def at_socket(path: Path, clock: Clock) -> AsyncGenerator[RestHuman]:
    """As the owner of the gateway on this machine. The host in its URLs has no meaning."""
    with short_socket_path(path) as short:
        transport = httpx.AsyncHTTPTransport(uds=short, verify=no_tls())
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway", timeout=TIMEOUT_S) as http:
            yield RestHuman(http, clock)


@asynccontextmanager
async def at_url(url: str, token: str, trust: Trust, clock: Clock) -> AsyncGenerator[RestHuman]:
    """With an API key. Raises WrongKey and OSError where TLS cannot be had as wanted."""
    parts = urlsplit(url)
    headers = {"Authorization": f"Bearer {token}"}
    verify = await trust.context(parts.hostname or "", parts.port or 443) if parts.scheme == "https" else True
    async with httpx.AsyncClient(base_url=url, headers=headers, verify=verify, timeout=TIMEOUT_S) as http:
        yield RestHuman(http, clock)
