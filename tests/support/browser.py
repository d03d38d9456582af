"""A browser that is signed in, as far as the gateway can tell: cookies, and the headers that a page cannot set."""

import base64
import http.cookies
from dataclasses import dataclass, field
from typing import Any

import httpx

from entobot.client.answers import answer
from entobot.core.clock import SystemClock
from entobot.signin import totp
from entobot.signin.known_browsers import COOKIE as KNOWN_COOKIE
from entobot.web.authentication import SESSION_COOKIE
from tests.support.authenticator import Authenticator
from tests.support.process import GatewayProcess


class Browser:
    """`cookie` is the session's, `known` says that somebody signed in here before. Requests come from the gateway's own pages unless told otherwise."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        self.http = gateway.http()
        self.cookie: str | None = None
        self.known: str | None = None
        self.authenticator = Authenticator(gateway.origin)

    def send(self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any) -> httpx.Response:
        own = {"Sec-Fetch-Site": "same-origin", "Origin": self.gateway.origin, "User-Agent": "Test/1"}
        jar = {SESSION_COOKIE: self.cookie, KNOWN_COOKIE: self.known}
        if any(jar.values()):
            own["Cookie"] = "; ".join(f"{name}={value}" for name, value in jar.items() if value)
        response = self.http.request(method, path, headers=own | (headers or {}), **options)
        self.http.cookies.clear()
        for line in response.headers.get_list("set-cookie"):
            for name, morsel in http.cookies.SimpleCookie(line).items():
                setattr(self, {SESSION_COOKIE: "cookie", KNOWN_COOKIE: "known"}[name], morsel.value or None)
        return response

    def request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The JSON answer. Raises Problem."""
        return answer(self.send(method, path, **options))

    def follow(self, url: str) -> dict[str, Any]:
        """Open a one-time link."""
        return self.request("POST", "/api/v1/sign-in/link", json={"link": url.rpartition("#link=")[2]})

    def add_passkey(self, name: str = "Laptop") -> dict[str, Any]:
        options = self.request("POST", "/api/v1/me/passkey-options")["public_key"]
        body = {"name": name, "credential": self.authenticator.create(options)}
        return self.request("POST", "/api/v1/me/passkeys", json=body)

    def assertion(self) -> dict[str, Any]:
        options = self.request("POST", "/api/v1/sign-in/passkey/options")["public_key"]
        return {"credential": self.authenticator.get(options)}

    def sign_in(self) -> dict[str, Any]:
        return self.request("POST", "/api/v1/sign-in/passkey", json=self.assertion())

    def use_password(self, login: str, password: str, code: str | None = None) -> dict[str, Any]:
        body = {"login": login, "password": password} | ({} if code is None else {"code": code})
        return self.request("POST", "/api/v1/sign-in/password", json=body)

    def add_app(self) -> "App":
        """An authenticator app."""
        begun = self.request("POST", "/api/v1/me/totp")
        app = App(base64.b32decode(begun["secret"]))
        body = {"enrolment": begun["enrolment"], "code": app.code()}
        app.recovery_codes = self.request("POST", "/api/v1/me/totp/confirm", json=body)["codes"]
        return app


@dataclass
class App:
    """An authenticator app, whose clock is this machine's, and the recovery codes that came with it."""

    secret: bytes
    recovery_codes: list[str] = field(default_factory=list[str])

    def code(self, ahead: int = 0) -> str:
        """What it shows now, or so many steps later."""
        return totp.code_at(self.secret, SystemClock().now_ms() // totp.STEP_MS + ahead)
