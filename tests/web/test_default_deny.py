"""Every route of the built application is in the access table and guarded as it says."""

import re
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from entobot.core.access import ROUTES, Open
from entobot.web.idempotency import Idempotency
from entobot.web.routes import Api
from tests.web.conftest import Build, FakeAuthenticator, client_of
from tests.web.test_problems import check_problem


async def nothing() -> dict[str, str]:
    return {}


async def raw_nothing(_: Request) -> Response:
    return Response()


def build_all(build: Build, idempotency: Idempotency) -> FastAPI:
    """The demo application with a handler for every listed route that no one has added."""
    app = build()
    own = {
        f"{method} {route.path}" for route in app.routes if isinstance(route, Route) for method in route.methods or ()
    }
    rest = Api(FakeAuthenticator(), idempotency)
    for listed in ROUTES.keys() - own:
        method, path = listed.split(" ")
        rest.add(method, path, nothing)
    app.router.routes.extend(rest.routes)
    return app


async def test_every_route_is_listed_and_refuses_strangers(build: Build, idempotency: Idempotency) -> None:
    app = build_all(build, idempotency)
    walked: set[str] = set()
    async with client_of(app) as client:
        for route in app.routes:
            assert isinstance(route, Route), f"{route} is no plain route: mounts would escape the table"
            assert route.methods is not None
            assert len(route.methods) == 1
            (method,) = route.methods
            listed = f"{method} {route.path}"
            walked.add(listed)
            allowed = ROUTES[listed]
            response = await client.request(method, re.sub(r"{\w+}", "x", route.path))
            if allowed in (Open.ANYONE, Open.PROOF):
                assert response.status_code != 401
            else:
                check_problem(response, 401, "unauthenticated")
    assert walked == ROUTES.keys()


async def test_a_stranger_is_refused_before_the_body_is_read(app: FastAPI) -> None:
    async def body():  # noqa: ANN202
        pytest.fail("the body was read")
        yield b""

    async with client_of(app) as client:
        response = await client.post(
            "/api/v1/demo-things", content=body(), headers={"content-type": "application/json"}
        )
    check_problem(response, 401, "unauthenticated")


def test_a_route_that_is_not_listed_cannot_be_added(idempotency: Idempotency) -> None:
    api = Api(FakeAuthenticator(), idempotency)
    with pytest.raises(KeyError):
        api.add("GET", "/api/v1/secret-door", nothing)
    with pytest.raises(KeyError):
        api.add_raw("GET", "/api/v1/secret-door", raw_nothing)
    with pytest.raises(KeyError):
        api.add("DELETE", "/api/health", nothing)
    assert api.routes == []


def test_a_route_cannot_be_added_twice(idempotency: Idempotency) -> None:
    api = Api(FakeAuthenticator(), idempotency)
    api.add("GET", "/api/v1/audit", nothing)
    with pytest.raises(ValueError, match="two handlers"):
        api.add("GET", "/api/v1/audit", nothing)


async def test_a_raw_route_has_the_callers_principal(app: FastAPI) -> None:
    async with client_of(app) as client:
        headers = {"authorization": "DPoP chatter", "content-type": "application/json"}
        response = await client.post("/api/v1/demo-raw", content=b"{}", headers=headers)
    assert response.json() == {"size": 2, "device": "dev_chatter"}


async def test_pages_hide_no_route(app: FastAPI, build: Build) -> None:
    default: Any = app.router.default
    assert default is not None
    paths = {route.path for route in app.routes if isinstance(route, Route)}
    async with client_of(app) as client:
        for path in ("/", "/pair", "/docs/errors"):
            assert path not in paths
            assert "text/html" in (await client.get(path)).headers["content-type"]
