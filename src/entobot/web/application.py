"""Puts the web kit together: one ASGI application from the features' routes."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketClose

from entobot.core.clock import Clock
from entobot.core.errors import StartupRefused
from entobot.core.secrets import Entropy
from entobot.telemetry.meters import Meters
from entobot.telemetry.tracing import NoTracer, Tracer
from entobot.web.headers import SecurityHeaders
from entobot.web.http import CertificateFiles, Ready, add_routes
from entobot.web.openapi import describe
from entobot.web.origins import Admission, Admit, check_origin
from entobot.web.pages import Pages
from entobot.web.problems import InternalErrors, install
from entobot.web.requests import Requests
from entobot.web.routes import Api


@dataclass(frozen=True, slots=True)
class WebSettings:
    """`origin` is the gateway's public one; `allowed_origins` are further pages that may call it (CORS).

    `hsts` only where browsers trust the certificate by themselves; it needs `has_tls`.
    Raises StartupRefused for anything that is not an exact origin.
    """

    origin: str
    version: str
    gateway_name: str
    allowed_origins: tuple[str, ...] = ()
    has_tls: bool = True
    hsts: timedelta | None = None
    certificate: Callable[[], CertificateFiles] | None = None
    """Asked each time: a certificate may be replaced while the gateway runs."""

    def __post_init__(self) -> None:
        for origin in (self.origin, *self.allowed_origins):
            check_origin(origin)
        if self.hsts is not None and not self.has_tls:
            raise StartupRefused("HSTS needs TLS: browsers ignore it over plain HTTP.")


def build_application(
    api: Api,
    *,
    settings: WebSettings,
    pages: Pages,
    ready: Ready,
    clock: Clock,
    entropy: Entropy,
    admit: Admit | None = None,
    meters: Meters | None = None,
    tracer: Tracer | None = None,
    name_now: Callable[[], str] | None = None,
) -> FastAPI:
    """The ASGI application (HTTP only) of all routes in `api`, which takes no more after this.

    `name_now` tells the gateway's name where it may change while it runs.

    `pages` comes from `load_pages`, run in a thread. `admit(address)` is the limiter asked before a request is read.
    """

    @cache
    def description() -> dict[str, Any]:
        return describe(app.routes, api.rules, settings.version)

    add_routes(
        api,
        version=settings.version,
        gateway_name=name_now or (lambda: settings.gateway_name),
        origin=settings.origin,
        clock=clock,
        ready=ready,
        certificate=settings.certificate,
        pages=pages,
        description=description,
    )
    app = FastAPI(
        title="Entobot",
        version=settings.version,
        routes=api.routes,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # FastAPI's own tells exceptions and refused bodies to whatever provider the process has.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        middleware=[
            Middleware(Requests, entropy=entropy, clock=clock, meters=meters or Meters(), tracer=tracer or NoTracer()),
            Middleware(SecurityHeaders, hsts=settings.hsts),
            Middleware(Admission, origin=settings.origin, allowed=settings.allowed_origins, admit=admit),
            Middleware(InternalErrors, entropy=entropy),
        ],
    )
    install(app, api.methods_for)
    app.router.default = _no_route(pages)
    return app


def _no_route(pages: Pages) -> Any:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
        else:
            await pages(scope, receive, send)

    return answer
