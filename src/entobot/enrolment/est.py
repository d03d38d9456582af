"""EST (RFC 7030): the authority's certificate, and certificates for boards that show their API key as HTTP Basic."""

import base64
import binascii
from dataclasses import replace
from typing import Any

from fastapi import Request, Response

from entobot.core.errors import Code, Problem
from entobot.devices.certificate_desk import CertificateDesk
from entobot.web.authentication import Authenticator, presented
from entobot.web.routes import Api

AT = "/.well-known/est"
CHALLENGE = 'Basic realm="entobot", charset="UTF-8"'
"""What clients wait for before they show what they have (RFC 7030 §3.2.3, RFC 7617)."""

MAX_REQUEST_BYTES = 8 * 1024
_LINE = 64


def add_routes(api: Api, desk: CertificateDesk, authenticator: Authenticator) -> None:
    routes = _Routes(desk, authenticator)
    told: dict[str, Any] = {
        "200": {"description": "PKCS#7, certs-only, in base64.", "content": {"application/pkcs7-mime": {}}}
    }
    api.add_raw(
        "GET",
        AT + "/cacerts",
        routes.show_authority,
        problems=(Code.NOT_FOUND,),
        operation={"summary": "Show Authority", "responses": told},
    )
    asked: dict[str, Any] = {"required": True, "content": {"application/pkcs10": {"schema": {"type": "string"}}}}
    for name, endpoint, summary in (
        ("simpleenroll", routes.enrol_certificate, "Enrol Certificate"),
        ("simplereenroll", routes.renew_certificate, "Renew Certificate"),
    ):
        api.add_raw(
            "POST",
            f"{AT}/{name}",
            endpoint,
            max_body_bytes=MAX_REQUEST_BYTES,
            media_type="application/pkcs10",
            problems=(Code.UNAUTHENTICATED, Code.DEVICE_SUSPENDED, Code.QUOTA_EXCEEDED, Code.FORBIDDEN),
            operation={"summary": summary, "requestBody": asked, "responses": told},
        )


class _Routes:
    def __init__(self, desk: CertificateDesk, authenticator: Authenticator) -> None:
        self._desk = desk
        self._authenticator = authenticator

    async def show_authority(self, request: Request) -> Response:
        del request
        return _answer(await self._desk.authority())

    async def enrol_certificate(self, request: Request) -> Response:
        try:
            return await self._enrol(request)
        except Problem as problem:
            problem.challenge = CHALLENGE
            raise

    async def _enrol(self, request: Request) -> Response:
        shown = presented(request)
        user, key = _basic(shown.authorization)
        principal = await self._authenticator.authenticate(replace(shown, authorization=f"Bearer {key}"))
        if user not in ("", principal.device_id):
            raise Problem(Code.UNAUTHENTICATED, "This key is another device's.")
        return _answer(await self._desk.issue(principal, _decoded(await request.body())))

    async def renew_certificate(self, request: Request) -> Response:
        """As the first one: by the API key."""
        return await self.enrol_certificate(request)


def _basic(authorization: str | None) -> tuple[str, str]:
    scheme, _, text = (authorization or "").partition(" ")
    try:
        plain = base64.b64decode(text, validate=True).decode("ascii") if scheme.lower() == "basic" else ""
    except ValueError:
        plain = ""
    user, _, key = plain.partition(":")
    if not key.startswith("ent_key_"):
        raise Problem(Code.UNAUTHENTICATED, "Send the device's id and its API key as HTTP Basic.")
    return user, key


def _decoded(body: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        raise Problem(Code.INVALID, "The body is no certificate request: PKCS#10, DER, in base64.") from None


def _answer(der: bytes) -> Response:
    text = base64.b64encode(der).decode("ascii")
    lines = "\n".join(text[at : at + _LINE] for at in range(0, len(text), _LINE)) + "\n"
    headers = {"Content-Transfer-Encoding": "base64", "Cache-Control": "no-store"}
    return Response(lines, media_type="application/pkcs7-mime; smime-type=certs-only", headers=headers)
