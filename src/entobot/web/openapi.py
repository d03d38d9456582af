"""The OpenAPI document: FastAPI's description of bodies, completed with what the kit does on every route."""

from collections.abc import Iterable, Iterator
from typing import Any

from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute

from entobot.core.access import Open
from entobot.core.errors import STATUS, Code
from entobot.core.permissions import Scope
from entobot.web.idempotency import MAX_KEY_CHARACTERS
from entobot.web.late_route import LateRoute
from entobot.web.problems import MEDIA_TYPE
from entobot.web.routes import Rule

SUMMARY = "Self-hosted gateway between AI agents and people's phones."

_GUARDED = (Code.UNAUTHENTICATED, Code.PROOF_REQUIRED, Code.PROOF_STALE, Code.PROOF_INVALID, Code.DEVICE_SUSPENDED)
_EVERYWHERE = (Code.RATE_LIMITED, Code.INVALID, Code.INTERNAL, Code.DRAINING)

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457 problem details. Some codes add members, for example `server_time` or `fields`.",
    "required": ["type", "title", "status", "code", "detail", "retry"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "code": {"type": "string", "enum": [str(code) for code in Code]},
        "detail": {"type": "string", "description": "What happened and what to do."},
        "retry": {"type": "boolean", "description": "Whether the same request may succeed later."},
        "retry_after_s": {"type": "number", "minimum": 0},
        "error_id": {"type": "string", "description": "With `internal`: the id in the gateway's log."},
        "fields": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}

SECURITY_SCHEMES: dict[str, Any] = {
    "device": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "`DPoP <access token>`, together with a fresh `DPoP` proof header (RFC 9449, ES256).",
    },
    "proof": {
        "type": "apiKey",
        "in": "header",
        "name": "DPoP",
        "description": "A DPoP proof by the device key, made for this method and address and used once.",
    },
    "api_key": {"type": "http", "scheme": "bearer", "description": "An API key, `ent_key_…`, for boards and scripts."},
}

_IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Makes a repeat of this write answer like the first time. Kept 24 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARACTERS, "pattern": "^[!-~]+$"},
}


def describe(routes: Iterable[BaseRoute], rules: Iterable[Rule], version: str) -> dict[str, Any]:
    """The whole document for `routes`. Every operation lists each status it can answer with."""
    made = [route.made if isinstance(route, LateRoute) else route for route in routes]
    document = get_openapi(title="Entobot", version=version, summary=SUMMARY, routes=made)
    components: dict[str, Any] = document.setdefault("components", {})
    schemas: dict[str, Any] = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = PROBLEM_SCHEMA
    components["securitySchemes"] = SECURITY_SCHEMES
    for rule in rules:
        path: dict[str, Any] = document["paths"].setdefault(rule.path, {})
        if rule.operation is not None:
            path[rule.method.lower()] = rule.operation()
        operation = path.get(rule.method.lower())
        if operation is not None:
            _complete(operation, rule)
    document["paths"] = {path: methods for path, methods in document["paths"].items() if methods}
    return document


def _complete(operation: dict[str, Any], rule: Rule) -> None:
    if rule.access is Open.PROOF:
        operation["security"] = [{"proof": []}]
    elif rule.access is not Open.ANYONE:
        operation["security"] = [{"device": [], "proof": []}, {"api_key": []}]
    if isinstance(rule.access, Scope):
        needs = f"Needs the scope `{rule.access}`."
        operation["description"] = f"{operation.get('description', '')}\n\n{needs}".strip()
    if rule.is_idempotent:
        operation.setdefault("parameters", []).append(_IDEMPOTENCY_KEY)
    responses: dict[str, Any] = operation.setdefault("responses", {})
    by_status: dict[int, list[Code]] = {}
    for code in sorted(frozenset(_problems(operation, rule))):
        by_status.setdefault(STATUS[code], []).append(code)
    for status, codes in sorted(by_status.items()):
        responses[str(status)] = _response(codes)


def _problems(operation: dict[str, Any], rule: Rule) -> Iterator[Code]:
    yield from rule.problems
    yield from _EVERYWHERE
    if rule.access is not Open.ANYONE:
        yield from _GUARDED
    if rule.is_write or isinstance(rule.access, Scope):
        yield Code.FORBIDDEN
    if "{" in rule.path:
        yield Code.NOT_FOUND
    if "requestBody" in operation:
        yield Code.TOO_LARGE
    if rule.is_idempotent:
        yield from (Code.IDEMPOTENCY_MISMATCH, Code.TOO_LARGE)


def _response(codes: list[Code]) -> dict[str, Any]:
    status = STATUS[codes[0]]
    example = {
        "type": f"/docs/errors#{codes[0]}",
        "title": codes[0].replace("_", " ").capitalize(),
        "status": status,
        "code": str(codes[0]),
        "detail": "What happened and what to do.",
        "retry": False,
    }
    response: dict[str, Any] = {
        "description": ", ".join(f"`{code}`" for code in codes),
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}},
    }
    if status == 429:
        response["headers"] = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}}}
    if status == 401:
        response["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return response
