from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from tests.web.conftest import CHATTER, OWNER


def check_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (response.status_code, body["status"], body["code"]) == (status, status, code)
    assert body["detail"]
    assert body["type"] == f"/docs/errors#{code}"
    return body


async def test_an_anonymous_caller_is_challenged(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/v1/demo/thing")
    check_problem(response, 401, "unauthenticated")
    assert response.headers["www-authenticate"].startswith("DPoP")


async def test_a_missing_scope_is_forbidden(client: httpx.AsyncClient) -> None:
    check_problem(await client.get("/api/v1/demo/thing", headers=CHATTER), 403, "forbidden")


async def test_further_members_of_a_problem_are_sent(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/v1/demo/thing", headers={"authorization": "DPoP old"})
    assert check_problem(response, 401, "proof_stale")["server_time"] == 1


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/nothing", "/api/v1/demo/", "/../etc/passwd", "/api/v1/demo/%00"])
async def test_an_unknown_address_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    check_problem(await client.get(path, headers=OWNER), 404, "not_found")


async def test_a_wrong_method_names_all_the_right_ones(client: httpx.AsyncClient) -> None:
    response = await client.put("/api/v1/demo/thing")
    check_problem(response, 405, "invalid")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, PATCH"


async def test_options_tells_the_methods(client: httpx.AsyncClient) -> None:
    response = await client.options("/api/v1/demo/thing")
    assert (response.status_code, response.headers["allow"]) == (204, "GET, HEAD, OPTIONS, PATCH")


async def test_options_of_an_unknown_address_is_not_found(client: httpx.AsyncClient) -> None:
    check_problem(await client.options("/api/v1/nothing"), 404, "not_found")


async def test_head_is_get_without_its_body(client: httpx.AsyncClient) -> None:
    got = await client.get("/api/v1/demo/thing", headers=OWNER)
    head = await client.head("/api/v1/demo/thing", headers=OWNER)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


async def test_head_is_guarded_like_get(client: httpx.AsyncClient) -> None:
    assert (await client.head("/api/v1/demo/thing")).status_code == 401


async def test_head_of_an_endless_answer_ends(client: httpx.AsyncClient) -> None:
    response = await client.head("/api/v1/demo-endless", headers=OWNER)
    assert (response.status_code, response.content) == (200, b"")


async def test_a_defect_is_told_by_an_id_that_is_also_in_the_log(client: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        response = await client.get("/api/v1/demo-broken")
    body = check_problem(response, 500, "internal")
    assert [line["error_id"] for line in logs] == [body["error_id"]]
    assert logs[0]["error_type"] == "builtins.RuntimeError"
    assert any("conftest.py" in frame for frame in logs[0]["frames"])


async def test_the_text_of_a_defect_stays_inside(client: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        response = await client.get("/api/v1/demo-broken")
    assert "hunter2" not in response.text
    assert "hunter2" not in repr(logs)


async def test_wrong_fields_are_named_without_their_values(client: httpx.AsyncClient) -> None:
    sent = {"name": "", "amount": "hunter2", "nested": {"surplus": "hunter2"}}
    body = check_problem(await client.post("/api/v1/demo-things", json=sent, headers=OWNER), 422, "invalid")
    fields = [field["field"] for field in body["fields"]]
    assert fields == ["body.name", "body.amount", "body.nested.surplus"]
    assert "hunter2" not in repr(body)


async def test_the_list_of_wrong_fields_is_bounded(client: httpx.AsyncClient) -> None:
    sent = {"name": "x"} | {f"{n}-{'y' * 500}": 1 for n in range(100)}
    body = check_problem(await client.post("/api/v1/demo-things", json=sent, headers=OWNER), 422, "invalid")
    assert len(body["fields"]) == 10
    assert len(repr(body)) < 5000


async def test_a_wrong_query_is_invalid(client: httpx.AsyncClient) -> None:
    check_problem(await client.get("/api/v1/demo-search?limit=x", headers=OWNER), 422, "invalid")
    check_problem(await client.get("/api/v1/demo-search?q=%00", headers=OWNER), 422, "invalid")
