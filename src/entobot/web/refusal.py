"""Refusals made below the application: whole HTTP/1.1 responses with an RFC 9457 body, after which we hang up."""

import json
from collections.abc import Sequence
from http import HTTPStatus


def refusal_body(status: int, code: str, detail: str, *, retry: bool = False) -> bytes:
    """problem+json, the members of `core.errors.Problem.to_json`; for statuses that its vocabulary does not have."""
    title = HTTPStatus(status).phrase
    body = {
        "type": f"/docs/errors#{code}",
        "title": title,
        "status": status,
        "code": code,
        "detail": detail,
        "retry": retry,
    }
    return json.dumps(body, separators=(",", ":")).encode("utf-8")


def refusal_response(
    status: int,
    code: str,
    detail: str,
    *,
    headers: Sequence[tuple[bytes, bytes]] = (),
    retry: bool = False,
) -> bytes:
    body = refusal_body(status, code, detail, retry=retry)
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode("ascii")]
    lines += [name + b": " + value for name, value in headers]
    lines += [
        b"content-type: application/problem+json",
        b"content-length: " + str(len(body)).encode("ascii"),
        b"cache-control: no-store",
        b"connection: close",
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
