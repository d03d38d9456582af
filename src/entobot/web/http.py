"""The kit's own routes: health, readiness, certificates, the API's description."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from entobot.core.clock import Clock, rfc3339
from entobot.core.errors import Code, Problem
from entobot.core.permissions import Scope
from entobot.storage.database import StorageFailed
from entobot.web.authentication import is_local
from entobot.web.headers import PAGE_POLICY
from entobot.web.pages import Pages, page_response
from entobot.web.problems import problem_response
from entobot.web.routes import Api

ACCEPTING = "accepting"
"""Name of the check that says whether the node drains."""
IDENTIFY_S = 1.0
ASK_AGAIN_S = 2
"""An answer is kept for so long: asking sooner tells nothing new."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing the gateway needs to do its work, as found just now. Without what is not `is_vital` it works less well.

    `for_s` is how long it has not been well, as far as that is known.
    """

    name: str
    is_ok: bool
    detail: str = ""
    is_vital: bool = True
    for_s: float | None = None

    @property
    def said(self) -> str:
        since = "" if self.for_s is None else f", for {self.for_s:.0f} s"
        return f"{self.name}: {self.detail or 'no'}{since}"


@dataclass(frozen=True, slots=True)
class ReadyReport:
    checks: tuple[Check, ...] = ()

    @property
    def is_ready(self) -> bool:
        return all(check.is_ok or not check.is_vital for check in self.checks)

    @property
    def reasons(self) -> str:
        """Of not being ready, for the operator."""
        return "; ".join(check.said for check in self.checks if check.is_vital and not check.is_ok)

    @property
    def is_degraded(self) -> bool:
        """It works, and something that makes it work well is missing."""
        return self.is_ready and not all(check.is_ok for check in self.checks)

    @property
    def shortcomings(self) -> str:
        """Of being degraded, for the operator."""
        return "; ".join(check.said for check in self.checks if not check.is_ok)


Ready = Callable[[], Awaitable[ReadyReport]]
"""Asked on every `GET /api/ready`, by strangers too: it must be cheap."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """What a phone needs to trust a local CA. `description` is JSON; none of it is secret."""

    description: bytes
    ca_crt: bytes | None = None
    ca_mobileconfig: bytes | None = None


class HealthBody(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "status": "ok",
                "version": "0.1.0",
                "gateway_name": "Living room",
                "origin": "https://192.168.1.20:18790",
                "server_time": "2026-11-20T09:30:00.000Z",
            }
        }
    )

    status: Literal["ok"]
    version: str
    gateway_name: str
    origin: str = Field(description="Where phones reach this gateway, and what proofs are made for.")
    server_time: str = Field(description="RFC 3339 UTC. Clients keep the offset for their proofs.")


class CheckBody(BaseModel):
    name: str
    ok: bool
    detail: str
    for_s: float | None = Field(default=None, description="How long it has not been well, where that is known.")


class ReadyBody(BaseModel):
    status: Literal["ready", "degraded", "not_ready"] = Field(
        description="`degraded` (200): everything is served, something later than it could be."
    )
    detail: str | None = Field(default=None, description="What is missing, beside `checks`.")
    checks: list[CheckBody] | None = Field(
        default=None, description="Only for holders of the scope `metrics` and the local socket."
    )


def add_routes(
    api: Api,
    *,
    version: str,
    gateway_name: Callable[[], str],
    origin: str,
    clock: Clock,
    ready: Ready,
    certificate: Callable[[], CertificateFiles] | None,
    pages: Pages,
    description: Callable[[], dict[str, Any]],
) -> None:
    _add_health(api, version, gateway_name, origin, clock, ready)
    _add_certificate(api, certificate)
    _add_description(api, pages, description)


def _add_health(
    api: Api, version: str, gateway_name: Callable[[], str], origin: str, clock: Clock, ready: Ready
) -> None:
    async def get_health() -> HealthBody:
        """Whether the gateway answers at all."""
        return HealthBody(
            status="ok",
            version=version,
            gateway_name=gateway_name(),
            origin=origin,
            server_time=rfc3339(clock.now_ms()),
        )

    async def get_ready(request: Request) -> Response:
        """Whether the gateway can do its work. Strangers are told whether, and not why."""
        may_see_details = await _may_see_details(api, request)
        report = await ready()
        if not may_see_details:
            if report.is_ready:
                return JSONResponse({"status": _status(report)})
            return JSONResponse({"status": _status(report)}, 503, {"retry-after": str(ASK_AGAIN_S)})
        checks = [_row(check) for check in report.checks]
        if report.is_ready:
            missing = {"detail": f"Degraded: {report.shortcomings}."} if report.is_degraded else {}
            return JSONResponse({"status": _status(report), **missing, "checks": checks})
        is_draining = any(c.name == ACCEPTING and not c.is_ok for c in report.checks)
        code = Code.DRAINING if is_draining else Code.INTERNAL
        problem = Problem(code, f"Not ready: {report.reasons}.", retry_after_s=ASK_AGAIN_S, extra={"checks": checks})
        return problem_response(problem, status=503)

    refusals = (Code.UNAUTHENTICATED, Code.PROOF_INVALID, Code.DEVICE_SUSPENDED)
    api.add("GET", "/api/health", get_health)
    api.add("GET", "/api/ready", get_ready, problems=refusals, response_model=ReadyBody)


def _status(report: ReadyReport) -> str:
    if report.is_degraded:
        return "degraded"
    return "ready" if report.is_ready else "not_ready"


def _row(check: Check) -> dict[str, object]:
    row: dict[str, object] = {"name": check.name, "ok": check.is_ok, "detail": check.detail}
    return row if check.for_s is None else row | {"for_s": round(check.for_s, 1)}


async def _may_see_details(api: Api, request: Request) -> bool:
    """The local socket without the store being asked; a store that does not answer is what this is asked about."""
    if "authorization" not in request.headers:
        return is_local(request)
    try:
        async with asyncio.timeout(IDENTIFY_S):
            return Scope.METRICS in (await api.identify(request)).scopes
    except (StorageFailed, TimeoutError):
        return False


def _add_certificate(api: Api, certificate: Callable[[], CertificateFiles] | None) -> None:
    def file(pick: Callable[[CertificateFiles], bytes | None], media_type: str, name: str | None = None) -> Response:
        content = None if certificate is None else pick(certificate())
        if content is None:
            raise Problem(Code.NOT_FOUND, "This gateway does not use a certificate authority of its own.")
        headers = {"content-disposition": f'attachment; filename="{name}"'} if name else {}
        return Response(content, media_type=media_type, headers=headers)

    async def get_certificate() -> Response:
        """The certificate the gateway presents, and what browsers allow with it."""
        return file(lambda files: files.description, "application/json")

    async def get_ca_crt() -> Response:
        return file(lambda files: files.ca_crt, "application/x-x509-ca-cert", "entobot-ca.crt")

    async def get_ca_mobileconfig() -> Response:
        name = "entobot-ca.mobileconfig"
        return file(lambda files: files.ca_mobileconfig, "application/x-apple-aspen-config", name)

    missing = (Code.NOT_FOUND,)
    api.add("GET", "/api/certificate", get_certificate, problems=missing)
    api.add("GET", "/ca.crt", get_ca_crt, problems=missing, include_in_schema=False)
    api.add("GET", "/ca.mobileconfig", get_ca_mobileconfig, problems=missing, include_in_schema=False)


def _add_description(api: Api, pages: Pages, description: Callable[[], dict[str, Any]]) -> None:
    page = pages.find("/docs/")
    assert page is not None

    async def get_openapi() -> Response:
        return JSONResponse(await asyncio.to_thread(description))

    async def get_docs(request: Request) -> Response:
        response = page_response(page, request.headers)
        response.headers["content-security-policy"] = PAGE_POLICY
        return response

    api.add("GET", "/api/openapi.json", get_openapi, include_in_schema=False)
    api.add("GET", "/api/docs", get_docs, include_in_schema=False)
