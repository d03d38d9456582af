"""Every error leaves as `application/problem+json` (RFC 9457) with a stable code."""

import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from entobot.core.errors import Code, Problem
from entobot.core.secrets import Entropy, b64u
from entobot.storage.database import StorageFailed

MEDIA_TYPE = "application/problem+json"
CHALLENGE = 'DPoP algs="ES256", Bearer'
"""`WWW-Authenticate` of every 401 that brings no other (RFC 9110 §11.6.1, RFC 9449 §7.1)."""

MAX_FIELDS = 10
MAX_FIELD_CHARACTERS = 100
MAX_MESSAGE_CHARACTERS = 200

_log = structlog.get_logger(__name__)


def problem_response(problem: Problem, *, status: int | None = None, headers: Mapping[str, str] = {}) -> Response:
    """`problem` as an answer. `status` overrules the code's own (only 405, which has no code of its own)."""
    body = problem.to_json()
    sent = dict(headers)
    if status is not None:
        body["status"] = status
    if problem.retry_after_s is not None:
        sent["retry-after"] = str(max(1, -int(-problem.retry_after_s // 1)))
    if problem.status == 401:
        sent.setdefault("www-authenticate", problem.challenge or CHALLENGE)
    content = json.dumps(body, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    return Response(content, status or problem.status, sent, MEDIA_TYPE)


def from_validation(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """Which fields are wrong and why: bounded, and without the values that were sent, which may be secrets."""
    fields = [
        {
            "field": ".".join(str(part) for part in error["loc"])[:MAX_FIELD_CHARACTERS],
            "message": _message(error)[:MAX_MESSAGE_CHARACTERS],
        }
        for error in errors[:MAX_FIELDS]
    ]
    more = f" and {len(errors) - MAX_FIELDS} more" if len(errors) > MAX_FIELDS else ""
    first = f"{fields[0]['field']}: {fields[0]['message']}" if fields else "The request is not as described."
    others = f" ({len(fields) - 1} other fields{more})" if len(fields) > 1 else ""
    return Problem(Code.INVALID, first + others, extra={"fields": fields})


_OWN_WORDS = frozenset({"value_error", "assertion_error"})


def _message(error: Mapping[str, Any]) -> str:
    # A validator of ours raises ValueError with a text that pydantic would quote; it may have quoted the value.
    return "is not valid" if error["type"] in _OWN_WORDS else str(error["msg"])


def internal(entropy: Entropy, error: BaseException, **where: str) -> Problem:
    """The problem for a defect: an id in the answer and in the log.

    The log gets the exception's type and the lines it came through, not its message: messages of validators and
    drivers quote the values they were given.
    """
    error_id = b64u(entropy.bytes(9))
    frames = traceback.extract_tb(error.__traceback__)[-12:]
    _log.error(
        "web.internal_error",
        error_id=error_id,
        error_type=f"{type(error).__module__}.{type(error).__qualname__}",
        cause=type(error.__cause__).__qualname__ if error.__cause__ else None,
        frames=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
        **where,
    )
    return Problem(
        Code.INTERNAL,
        f"Something went wrong in the gateway. Its log tells more under the id {error_id}.",
        extra={"error_id": error_id},
    )


def as_problem(error: Exception) -> Problem | None:
    """The problem that an exception of a handler stands for, None for a defect."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, StorageFailed):
        return error.as_problem()
    if isinstance(error, RequestValidationError):
        return from_validation(error.errors())
    return None


class InternalErrors:
    """ASGI: what no handler caught becomes `internal`; a client that went away is nobody's error."""

    def __init__(self, app: ASGIApp, entropy: Entropy) -> None:
        self._app = app
        self._entropy = entropy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_started = False

        async def sender(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, sender)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001  the last net: whatever it is, its text must not leave
            route = getattr(scope.get("route"), "path", "")
            problem = internal(self._entropy, error, method=scope["method"], route=route)
            if has_started:
                # The status line is out. Ending the body early would look complete, so the connection must break.
                raise BrokenAnswer(problem.extra["error_id"]) from None
            await problem_response(problem)(scope, receive, send)


class BrokenAnswer(Exception):  # noqa: N818  reads as what happened
    """An answer failed after its first bytes; the server breaks the connection. Carries the id in the log."""


def install(app: FastAPI, methods_for: Callable[[str], list[str]]) -> None:
    """Answer the exceptions that handlers and the router raise. `methods_for(path)` fills `Allow`."""

    async def on_problem(_: Request, error: Exception) -> Response:
        problem = as_problem(error)
        assert problem is not None
        return problem_response(problem)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _unrouted(request, error.status_code, methods_for(request.scope["path"]))

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(StorageFailed, on_problem)
    app.add_exception_handler(RequestValidationError, on_problem)
    app.add_exception_handler(HTTPException, on_http)


def _unrouted(request: Request, status: int, methods: list[str]) -> Response:
    if status == 404 or not methods:
        return problem_response(Problem(Code.NOT_FOUND, "There is nothing at this address."))
    allow = {"allow": ", ".join(methods)}
    if request.method == "OPTIONS":
        return Response(status_code=204, headers=allow)
    if status == 405:
        text = f"This address answers {allow['allow']} only."
        return problem_response(Problem(Code.INVALID, text), status=405, headers=allow)
    if status == 413:
        return problem_response(Problem(Code.TOO_LARGE, "The body is too large."))
    return problem_response(Problem(Code.INVALID, "The request could not be read."))
