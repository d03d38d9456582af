"""A browser that is signed in, as far as the gateway can tell: cookies, and the headers that a page cannot set."""

import http.cookies
from typing import Any

import httpx

from entobot.client.answers import answer
from entobot.web.authentication import SESSION_COOKIE
from tests.support.authenticator import Authenticator
from tests.support.process import GatewayProcess


class Browser:
    """`cookie` is the session's. Requests come from the gateway's own pages unless told otherwise."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        self.http = gateway.http()
        self.cookie: str | None = None
        self.authenticator = Authenticator(gateway.origin)

    def send(self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any) -> httpx.Response:
        own = {"Sec-Fetch-Site": "same-origin", "Origin": self.gateway.origin, "User-Agent": "Test/1"}
        if self.cookie is not None:
            own["Cookie"] = f"{SESSION_COOKIE}={self.cookie}"
        response = self.http.request(method, path, headers=own | (headers or {}), **options)
        self.http.cookies.clear()
        for line in response.headers.get_list("set-cookie"):
            self.cookie = http.cookies.SimpleCookie(line)[SESSION_COOKIE].value or None
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
