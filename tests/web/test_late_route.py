"""FastAPI takes a route apart when it is first asked for."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from entobot.web.idempotency import Idempotency
from entobot.web.late_route import LateRoute
from entobot.web.openapi import describe
from entobot.web.routes import Api
from tests.web.conftest import OWNER, Demo, FakeAuthenticator
from tests.web.test_problems import check_problem


@pytest.fixture
def paths(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of all routes that FastAPI has taken apart, in order."""
    paths: list[str] = []
    begin = APIRoute.__init__

    def note(self: APIRoute, path: str, *arguments: object, **more: object) -> None:
        paths.append(path)
        begin(self, path, *arguments, **more)  # type: ignore[arg-type]  # whatever FastAPI takes

    monkeypatch.setattr(APIRoute, "__init__", note)
    return paths


async def test_a_built_application_has_made_none(paths: list[str], app: FastAPI) -> None:
    assert len([route for route in app.routes if isinstance(route, LateRoute)]) > 5
    assert paths == []


async def test_the_first_request_makes_its_route_and_no_other(paths: list[str], client: httpx.AsyncClient) -> None:
    for _ in range(2):
        assert (await client.get("/api/v1/demo-search", params={"limit": 3}, headers=OWNER)).json()["limit"] == 3
    assert paths == ["/api/v1/demo-search"]


async def test_its_parameters_are_checked_as_declared_from_the_first(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/v1/demo-search", params={"limit": 101}, headers=OWNER)
    assert [one["field"] for one in check_problem(response, 422, "invalid")["fields"]] == ["query.limit"]


async def test_another_method_hears_which_there_are(client: httpx.AsyncClient) -> None:
    response = await client.delete("/api/v1/demo/x", headers=OWNER)
    check_problem(response, 405, "invalid")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, PATCH"


async def test_the_description_has_them_all(paths: list[str], app: FastAPI, client: httpx.AsyncClient) -> None:
    described = (await client.get("/api/openapi.json")).json()
    late = [route for route in app.routes if isinstance(route, LateRoute)]
    assert sorted(paths) == sorted(route.path for route in late)
    assert "/api/v1/demo-search" in described["paths"]


def test_the_operation_of_a_raw_route_is_made_with_the_description(idempotency: Idempotency) -> None:
    asked: list[str] = []

    def operation() -> dict[str, Any]:
        asked.append("operation")
        return {"summary": "Raw"}

    api = Api(FakeAuthenticator(), idempotency)
    api.add_raw("POST", "/api/v1/demo-raw", Demo().raw, operation=operation)
    assert asked == []
    described = describe(api.routes, api.rules, "0.1.0")["paths"]["/api/v1/demo-raw"]["post"]
    assert (described["operationId"], described["summary"]) == ("raw", "Raw")
