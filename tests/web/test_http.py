"""Health, readiness, certificates, and the API's description."""

from typing import Any

import httpx
from fastapi import FastAPI

from entobot.core.access import ROUTES, Open
from entobot.core.errors import STATUS
from entobot.core.permissions import Scope
from entobot.web.application import WebSettings
from entobot.web.http import CertificateFiles, Check, ReadyReport
from tests.web.conftest import CHATTER, ORIGIN, OWNER, Build, client_of
from tests.web.test_origins import as_local
from tests.web.test_problems import check_problem

CERTIFICATE = CertificateFiles(b'{"mode":"local-ca"}', b"-----BEGIN CERTIFICATE-----", b"<plist/>")


async def test_health_tells_version_name_and_time(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/health")
    assert response.json() == {
        "status": "ok",
        "version": "0.1.0",
        "gateway_name": "Test gateway",
        "origin": ORIGIN,
        "server_time": "2026-09-21T14:13:20.000Z",
    }


async def not_ready() -> ReadyReport:
    return ReadyReport((Check("database", is_ok=True), Check("tls", is_ok=False, detail="expired")))


async def test_strangers_and_devices_without_metrics_get_the_status_only(client: httpx.AsyncClient) -> None:
    for headers in ({}, CHATTER):
        assert (await client.get("/api/ready", headers=headers)).json() == {"status": "ready"}


async def test_holders_of_metrics_and_the_local_socket_get_details(app: FastAPI, client: httpx.AsyncClient) -> None:
    checks = [{"name": "database", "ok": True, "detail": "synchronous=2"}]
    assert (await client.get("/api/ready", headers=OWNER)).json() == {"status": "ready", "checks": checks}
    async with client_of(as_local(app)) as local:
        assert (await local.get("/api/ready")).json()["checks"] == checks


async def test_not_ready_is_503(build: Build) -> None:
    async with client_of(build(ready=not_ready)) as client:
        response = await client.get("/api/ready")
        details = await client.get("/api/ready", headers=OWNER)
    assert (response.status_code, response.json()) == (503, {"status": "not_ready"})
    problem = check_problem(details, 503, "internal")
    assert problem["detail"] == "Not ready: tls: expired."
    assert problem["checks"][1] == {"name": "tls", "ok": False, "detail": "expired"}


async def draining() -> ReadyReport:
    return ReadyReport((Check("accepting", is_ok=False, detail="draining"),))


async def test_a_node_that_drains_says_so_to_those_who_may_know(build: Build) -> None:
    async with client_of(build(ready=draining)) as client:
        check_problem(await client.get("/api/ready", headers=OWNER), 503, "draining")


async def limping() -> ReadyReport:
    return ReadyReport((Check("bus", is_ok=False, detail="away", is_vital=False, for_s=12.34),))


async def test_what_is_not_vital_degrades_the_node_and_leaves_it_in_service(build: Build) -> None:
    async with client_of(build(ready=limping)) as client:
        answer = await client.get("/api/ready", headers=OWNER)
        stranger = await client.get("/api/ready")
    assert answer.status_code == stranger.status_code == 200
    assert stranger.json() == {"status": "degraded"}
    assert answer.json() == {
        "status": "degraded",
        "detail": "Degraded: bus: away, for 12 s.",
        "checks": [{"name": "bus", "ok": False, "detail": "away", "for_s": 12.3}],
    }


async def test_stale_credentials_are_told_so(client: httpx.AsyncClient) -> None:
    check_problem(await client.get("/api/ready", headers={"authorization": "DPoP old"}), 401, "proof_stale")


async def test_certificate_files_are_served_as_phones_expect_them(build: Build) -> None:
    settings = WebSettings(origin=ORIGIN, version="1", gateway_name="x", certificate=lambda: CERTIFICATE)
    async with client_of(build(settings)) as client:
        description = await client.get("/api/certificate")
        authority = await client.get("/ca.crt")
        profile = await client.get("/ca.mobileconfig")
    assert description.json() == {"mode": "local-ca"}
    assert authority.headers["content-type"] == "application/x-x509-ca-cert"
    assert authority.content == CERTIFICATE.ca_crt
    assert profile.headers["content-type"] == "application/x-apple-aspen-config"
    assert profile.content == CERTIFICATE.ca_mobileconfig


async def test_without_an_own_authority_there_are_no_certificate_files(client: httpx.AsyncClient) -> None:
    for path in ("/api/certificate", "/ca.crt", "/ca.mobileconfig"):
        check_problem(await client.get(path), 404, "not_found")


async def description(client: httpx.AsyncClient) -> dict[str, Any]:
    return (await client.get("/api/openapi.json")).json()


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


async def test_every_operation_documents_its_problems_and_who_may_call_it(client: httpx.AsyncClient) -> None:
    document = await description(client)
    for method, path, operation in operations(document):
        allowed = ROUTES[f"{method} {path}"]
        statuses = set(operation["responses"])
        assert {"429", "422", "500", "503"} <= statuses, path
        assert ("security" in operation) is (allowed is not Open.ANYONE), path
        if allowed is not Open.ANYONE:
            assert {"400", "401", "403"} <= statuses, path
        if isinstance(allowed, Scope):
            assert f"`{allowed}`" in operation["description"]
        if "requestBody" in operation:
            assert "413" in statuses, path
        for status, response in operation["responses"].items():
            if int(status) >= 400 and path != "/api/ready":
                assert list(response["content"]) == ["application/problem+json"], path


async def test_the_description_names_operations_by_their_verbs(client: httpx.AsyncClient) -> None:
    names = [operation["operationId"] for _, _, operation in operations(await description(client))]
    assert {"get_health", "get_ready", "create_thing", "raw"} <= set(names)
    assert len(names) == len(set(names))


async def test_the_description_has_no_framework_leftovers(client: httpx.AsyncClient) -> None:
    text = (await client.get("/api/openapi.json")).text
    assert "HTTPValidationError" not in text
    document = await description(client)
    codes = document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
    assert codes == sorted(STATUS)
    assert document["info"]["version"] == "0.1.0"


async def test_only_keyed_writes_document_the_key(client: httpx.AsyncClient) -> None:
    document = await description(client)

    def has_key(method: str, path: str) -> bool:
        parameters = document["paths"][path][method].get("parameters", [])
        return any(parameter["name"] == "Idempotency-Key" for parameter in parameters)

    assert has_key("post", "/api/v1/demo-things")
    assert not has_key("post", "/api/v1/demo-open")
    assert not has_key("get", "/api/v1/demo/{demo_id}")


async def test_a_local_caller_with_credentials_of_its_own_is_that_device(app: FastAPI) -> None:
    async with client_of(as_local(app)) as local:
        assert "checks" not in (await local.get("/api/ready", headers=CHATTER)).json()
