"""The default-deny router: a route exists only if the access table lists it, and is guarded as it says.

Every route answers in this order: is the address within its limit · who is calling (before a byte of the body is
read) · are they within theirs · may they · body within its cap, JSON · idempotency key · handler.
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Route

from entobot.core.access import FRESH, ROUTES, Access, Open
from entobot.core.clock import Clock, SystemClock
from entobot.core.errors import Code, NoLonger, Problem
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.core.rates import Rate, rate_of
from entobot.telemetry.log import bind
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric
from entobot.web.authentication import Authenticator, is_local, presented
from entobot.web.bodies import DEFAULT_MAX_BYTES, JSON, BoundedRequest, check_media_type, has_body
from entobot.web.idempotency import Idempotency, Redact, keyed
from entobot.web.late_route import LateRoute

UNSAFE_METHODS = frozenset({"DELETE", "PATCH", "POST", "PUT"})
GUESSES = frozenset({Code.INVITE_NOT_FOUND, Code.PROOF_INVALID, Code.REFRESH_INVALID, Code.UNAUTHENTICATED})
"""Answers to credentials that no device of ours shows. What does not hold any more is a `NoLonger`."""

Endpoint = Callable[[Request], Awaitable[Response]]
Operation = dict[str, Any]
Wrapped = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass(frozen=True, slots=True)
class Rule:
    """How one route is guarded and described. `problems` are the codes of its own, for the description."""

    method: str
    path: str
    access: Access
    rate: Rate
    is_fresh: bool = False
    """A browser's session must be of the last minutes."""
    max_body_bytes: int = DEFAULT_MAX_BYTES
    is_idempotent: bool = False
    redact: Redact | None = None
    problems: frozenset[Code] = field(default_factory=frozenset[Code])
    operation: Callable[[], Operation] | None = None
    """Makes the OpenAPI operation of a raw route; other routes are described from their types."""
    media_type: str = JSON
    """Of the body."""

    @property
    def is_write(self) -> bool:
        return self.method in UNSAFE_METHODS


class Throttle(Protocol):
    """`gateway.rates.Rates`: each raises `rate_limited`, for the classes that it counts in this way."""

    def check_address(self, rate: Rate, address: str) -> None: ...
    def check_principal(self, rate: Rate, principal: Principal) -> None: ...


class Api:
    """Where features add their routes. `routes` and `rules` are read by `web.application` once all are added."""

    def __init__(
        self,
        authenticator: Authenticator,
        idempotency: Idempotency,
        throttle: Throttle | None = None,
        meters: Meters | None = None,
        on_guess: Callable[[str, str], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`on_guess` is told (the problem's code, the caller's address) of credentials that are not good."""
        self.routes: list[BaseRoute] = []
        self.rules: list[Rule] = []
        self._authenticator = authenticator
        self._idempotency = idempotency
        self._throttle = throttle
        self._meters = meters or Meters()
        self._on_guess = on_guess
        self._clock = clock or SystemClock()

    def add(
        self,
        method: str,
        path: str,
        handler: Callable[..., Any],
        *,
        max_body_bytes: int = DEFAULT_MAX_BYTES,
        idempotent: bool = True,
        redact: Redact | None = None,
        problems: Iterable[Code] = (),
        **options: Any,
    ) -> None:
        """Register `handler` for `method path`; `options` go to FastAPI's route (`status_code`, `response_model` …).

        A write honours `Idempotency-Key` unless `idempotent=False`; `redact` takes its JSON answer and returns what
        may be stored (no secret). `problems` are the codes the handler raises beyond those every route has.
        Raises KeyError when the access table does not list the route, ValueError when it is added twice.
        """
        rule = self._rule(
            method, path, max_body_bytes, is_idempotent=idempotent, redact=redact, problems=frozenset(problems)
        )
        options.setdefault("operation_id", handler.__name__)
        api = self

        class GuardedRoute(APIRoute):
            def get_route_handler(self) -> Wrapped:
                return api._guarded(rule, super().get_route_handler())

        def make() -> APIRoute:
            return GuardedRoute(path, handler, methods=[method], **options)

        self.routes.append(LateRoute(path, handler, method, make))

    def add_raw(
        self,
        method: str,
        path: str,
        endpoint: Endpoint,
        *,
        max_body_bytes: int = DEFAULT_MAX_BYTES,
        problems: Iterable[Code] = (),
        operation: Operation | Callable[[], Operation] | None = None,
        media_type: str = JSON,
    ) -> None:
        """Register an endpoint that reads the request and makes the response itself: same guard, no pydantic.

        `await request.body()` is capped. The caller's principal is `authentication.caller(request)`. Idempotency is
        the endpoint's own. `operation` is its OpenAPI operation, completed with security and problems; a function where
        a schema has to be generated for it, which nobody waits for who only starts.
        """

        def described() -> Operation:
            made = operation() if callable(operation) else operation
            return {"operationId": getattr(endpoint, "__name__", path)} | (made or {})

        rule = self._rule(
            method, path, max_body_bytes, problems=frozenset(problems), operation=described, media_type=media_type
        )
        guarded = self._guarded(rule, endpoint)
        route = Route(path, guarded, methods=[method])
        if route.methods is not None:
            route.methods.discard("HEAD")  # answered for every GET in one place
        self.routes.append(route)

    def methods_for(self, path: str) -> list[str]:
        """Methods with a route at `path`, for `Allow`."""
        found = {
            method
            for route in self.routes
            if isinstance(route, Route) and route.path_regex.match(path)
            for method in route.methods or ()
        }
        if not found:
            return []
        return sorted(found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else set()))

    async def identify(self, request: Request) -> Principal:
        """The principal behind `request`, for open routes that tell some callers more. Raises as `Authenticator`."""
        # The terminal is also a device: with credentials of its own it is that device, not the owner.
        if is_local(request) and "authorization" not in request.headers:
            return await self._authenticator.local_owner()
        return await self._authenticator.authenticate(presented(request))

    def _rule(self, method: str, path: str, max_body_bytes: int, *, is_idempotent: bool = False, **more: Any) -> Rule:
        name = f"{method} {path}"
        access = ROUTES[name]
        if any(rule.method == method and rule.path == path for rule in self.rules):
            raise ValueError(f"two handlers for {name}")
        is_keyed = is_idempotent and method in UNSAFE_METHODS and access not in (Open.ANYONE, Open.PROOF)
        rate = rate_of(method, path)
        rule = Rule(method, path, access, rate, name in FRESH, max_body_bytes, is_idempotent=is_keyed, **more)
        self.rules.append(rule)
        return rule

    def _guarded(self, rule: Rule, handler: Endpoint) -> Wrapped:
        async def guarded(request: Request) -> Response:
            _check_text(request)
            principal = await self._admit(rule, request)
            bounded = BoundedRequest(request.scope, request.receive, rule.max_body_bytes)
            if rule.is_write and has_body(bounded):
                check_media_type(bounded, rule.media_type)
                if rule.operation is None and await bounded.body():
                    await bounded.json()  # here, since FastAPI would answer a Problem of its reader with a bare 400
            if principal is None:
                return await self._open(handler, bounded)
            if not rule.is_idempotent or "idempotency-key" not in bounded.headers:
                return await handler(bounded)
            what = keyed(principal, bounded, await bounded.body())
            return await self._idempotency.run(what, lambda: handler(bounded), rule.redact)

        return guarded

    async def _admit(self, rule: Rule, request: Request) -> Principal | None:
        throttle = self._throttle
        if throttle is not None and not is_local(request):
            throttle.check_address(rule.rate, request.client.host if request.client else "")
        if rule.access in (Open.ANYONE, Open.PROOF):
            return None
        try:
            principal = await self.identify(request)
        except Problem as problem:
            self._meters.counter(Metric.AUTH_FAILURES, transport="http", reason=problem.code).add()
            if "authorization" in request.headers:
                self._tell_guess(problem, request)
            raise
        bind(device_id=principal.device_id or principal.session_id or "local")
        if throttle is not None:
            throttle.check_principal(rule.rate, principal)
        if isinstance(rule.access, Scope):
            principal.require(rule.access)
        if rule.is_fresh:
            principal.require_fresh(self._clock.now_ms())
        request.state.principal = replace(principal, address=request.client.host if request.client else "")
        return request.state.principal

    async def _open(self, handler: Endpoint, request: Request) -> Response:
        """A route for strangers: what they show is checked by its handler."""
        try:
            return await handler(request)
        except Problem as problem:
            if problem.code in GUESSES:
                self._meters.counter(Metric.AUTH_FAILURES, transport="http", reason=problem.code).add()
            self._tell_guess(problem, request)
            raise

    def _tell_guess(self, problem: Problem, request: Request) -> None:
        is_guess = problem.code in GUESSES and not isinstance(problem, NoLonger)
        if self._on_guess is not None and is_guess and request.client and not is_local(request):
            self._on_guess(problem.code, request.client.host)


def _check_text(request: Request) -> None:
    """NUL is no text to a database: refuse it before it gets there."""
    if "\0" in request.scope["path"]:
        raise Problem(Code.NOT_FOUND, "There is nothing at this address.")
    if b"%00" in request.scope["query_string"]:
        raise Problem(Code.INVALID, "The query holds a NUL character.")
