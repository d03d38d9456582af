"""A built application with demo routes, an authenticator that knows two tokens, and clients for it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from entobot.core import access
from entobot.core.access import Access, Open
from entobot.core.errors import Code, Problem
from entobot.core.permissions import ALL_SCOPES, Scope
from entobot.core.principal import Principal
from entobot.storage.database_sqlite import SqliteDatabase
from entobot.web.application import WebSettings, build_application
from entobot.web.authentication import Caller, Presented, caller
from entobot.web.http import Check, ReadyReport
from entobot.web.idempotency import Idempotency
from entobot.web.pages import Pages, load_pages
from entobot.web.routes import Api
from tests.support.time import ManualClock, SeededEntropy

ORIGIN = "https://entobot.test:18790"
SETTINGS = WebSettings(origin=ORIGIN, version="0.1.0", gateway_name="Test gateway")
OWNER = {"authorization": "DPoP owner"}
CHATTER = {"authorization": "DPoP chatter"}

DEMO_ROUTES: dict[str, Access] = {
    "GET /api/v1/demo-broken": Open.ANYONE,
    "GET /api/v1/demo-endless": Open.AUTHENTICATED,
    "GET /api/v1/demo-search": Scope.CHAT,
    "GET /api/v1/demo/{demo_id}": Scope.PAIR,
    "POST /api/v1/demo-open": Open.ANYONE,
    "POST /api/v1/demo-raw": Open.AUTHENTICATED,
    "POST /api/v1/demo-things": Scope.PAIR,
    "POST /api/v1/demo-tiny": Scope.PAIR,
    "PATCH /api/v1/demo/{demo_id}": Scope.PAIR,
}


class FakeAuthenticator:
    """Knows `owner` and, of the same user, `tablet` (every scope), and `chatter` (chat only)."""

    async def authenticate(self, presented: Presented) -> Principal:
        match presented.authorization:
            case "DPoP owner":
                return Principal("usr_owner", ALL_SCOPES, "dev_owner")
            case "DPoP tablet":
                return Principal("usr_owner", ALL_SCOPES, "dev_tablet")
            case "DPoP chatter":
                return Principal("usr_chatter", frozenset({Scope.CHAT}), "dev_chatter")
            case None:
                raise Problem(Code.UNAUTHENTICATED, "No credentials.")
            case _:
                raise Problem(Code.PROOF_STALE, "Too old.", extra={"server_time": 1})

    async def local_owner(self) -> Principal:
        return Principal("usr_owner", ALL_SCOPES)


class Nested(BaseModel):
    model_config = ConfigDict(extra="forbid")
    label: str | None = Field(default=None, max_length=50)
    parts: list[int] = Field(default=[], max_length=20)


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=100)
    amount: int = Field(default=1, ge=0, le=1000)
    nested: Nested | None = None


class Demo:
    """What the demo routes did, and how they should behave next."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.before_answer: Callable[[], Any] | None = None
        self.gate: asyncio.Event | None = None
        self.entered = asyncio.Event()

    async def create_thing(self, body: Thing, principal: Caller) -> dict[str, object]:
        self.made.append(body.name)
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.before_answer is not None:
            self.before_answer()
        return {"number": len(self.made), "by": principal.device_id, "secret": "s3cret-value"}

    async def rename_thing(self, demo_id: str, body: Thing) -> dict[str, object]:
        self.made.append(f"{demo_id}={body.name}")
        return {"number": len(self.made)}

    async def open_thing(self, body: Thing) -> dict[str, object]:
        self.made.append(body.name)
        return {"number": len(self.made)}

    async def tiny_thing(self, body: Thing) -> dict[str, object]:
        return {"name": body.name}

    async def get_thing(self, demo_id: str) -> dict[str, object]:
        return {"id": demo_id}

    async def search(self, limit: Annotated[int, Query(ge=1, le=100)] = 10, q: str = "") -> dict[str, object]:
        return {"limit": limit, "q": q}

    async def broken(self) -> None:
        raise RuntimeError("the password is hunter2")

    async def raw(self, request: Request) -> Response:
        body = await request.body()
        return JSONResponse({"size": len(body), "device": caller(request).device_id})

    async def endless(self, request: Request) -> Response:
        async def lines() -> AsyncIterator[bytes]:
            while True:
                yield b": alive\n\n"
                await asyncio.sleep(0)

        return StreamingResponse(lines(), media_type="text/event-stream")


def redact(answer: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in answer.items() if name != "secret"}
    return kept | {"secret_shown": True}


def add_demo(api: Api, demo: Demo) -> None:
    api.add("POST", "/api/v1/demo-things", demo.create_thing, redact=redact, status_code=201)
    api.add("POST", "/api/v1/demo-open", demo.open_thing)
    api.add("POST", "/api/v1/demo-tiny", demo.tiny_thing, max_body_bytes=64)
    api.add("GET", "/api/v1/demo-broken", demo.broken)
    api.add("GET", "/api/v1/demo-search", demo.search)
    api.add_raw("GET", "/api/v1/demo-endless", demo.endless)
    api.add("GET", "/api/v1/demo/{demo_id}", demo.get_thing)
    api.add("PATCH", "/api/v1/demo/{demo_id}", demo.rename_thing)
    api.add_raw("POST", "/api/v1/demo-raw", demo.raw)


async def ready() -> ReadyReport:
    return ReadyReport((Check("database", is_ok=True, detail="synchronous=2"),))


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    for route, allowed in DEMO_ROUTES.items():
        monkeypatch.setitem(access.ROUTES, route, allowed)


@pytest.fixture
def demo() -> Demo:
    return Demo()


@pytest.fixture(scope="session")
def pages() -> Pages:
    return load_pages()


@pytest.fixture
def idempotency(database: SqliteDatabase, clock: ManualClock, entropy: SeededEntropy) -> Idempotency:
    return Idempotency(database, clock, entropy)


Build = Callable[..., FastAPI]


@pytest.fixture
def build(idempotency: Idempotency, demo: Demo, clock: ManualClock, entropy: SeededEntropy, pages: Pages) -> Build:
    def make(settings: WebSettings = SETTINGS, *, idempotency: Idempotency = idempotency, **parts: Any) -> FastAPI:
        api = Api(FakeAuthenticator(), idempotency, meters=parts.get("meters"))
        add_demo(api, demo)
        defaults: dict[str, Any] = {"pages": pages, "ready": ready, "clock": clock, "entropy": entropy}
        return build_application(api, settings=settings, **(defaults | parts))

    return make


@pytest.fixture
def app(build: Build) -> FastAPI:
    return build()


def client_of(app: Any, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, **options), base_url=ORIGIN)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client


@asynccontextmanager
async def serving(config: uvicorn.Config) -> AsyncGenerator[uvicorn.Server]:
    """A running uvicorn; its signal handlers are left out."""
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    ticking = asyncio.create_task(server.main_loop())
    try:
        yield server
    finally:
        server.should_exit = True
        await ticking
        await server.shutdown()


@asynccontextmanager
async def served(app: FastAPI) -> AsyncGenerator[int]:
    """`app` at a free loopback port."""
    config = uvicorn.Config(
        app, port=0, lifespan="off", log_config=None, log_level=None, server_header=False, ws="none"
    )
    async with serving(config) as server:
        yield server.servers[0].sockets[0].getsockname()[1]
