"""Requests to the gateway of this machine over its Unix socket, as the owner."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from entobot.client.answers import answer
from entobot.web.unix_socket import no_tls, short_socket_path

TIMEOUT_S = 40.0
"""Longer than the longest wait that a route offers."""


class GatewayNotRunning(Exception):  # noqa: N818  a state, told to the person at the terminal
    """Nobody answers at the socket."""


@contextmanager
def local_http(socket_path: Path) -> Generator[httpx.Client]:
    """An HTTP client bound to the socket. The host in its URLs has no meaning."""
    with short_socket_path(socket_path) as short:
        transport = httpx.HTTPTransport(uds=short, verify=no_tls())
        with httpx.Client(transport=transport, base_url="http://gateway", timeout=TIMEOUT_S) as client:
            yield client


class LocalGateway:
    """The REST routes of the running gateway."""

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path

    def request(self, method: str, path: str, **options: Any) -> Any:
        """The JSON answer. Raises Problem for a refusal, GatewayNotRunning when nobody listens."""
        return answer(self._send(method, path, **options))

    def text(self, path: str) -> str:
        """The answer of a route that speaks no JSON. Raises as `request`."""
        response = self._send("GET", path)
        if response.is_error:
            answer(response)
        return response.text

    @contextmanager
    def stream(self, path: str, **parameters: Any) -> Generator[Iterator[bytes]]:
        """The pieces of a long answer as they arrive; leaving early ends it. Raises as `request`."""
        try:
            with local_http(self._socket_path) as http, http.stream("GET", path, params=parameters) as response:
                if response.is_error:
                    response.read()
                    answer(response)
                yield response.iter_bytes()
        except (httpx.ConnectError, FileNotFoundError):
            raise self._not_running() from None

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            with local_http(self._socket_path) as http:
                return http.request(method, path, **options)
        except (httpx.ConnectError, FileNotFoundError):
            raise self._not_running() from None

    def _not_running(self) -> GatewayNotRunning:
        return GatewayNotRunning(f"No gateway runs on {self._socket_path.parent}. Start one with 'entobot up'.")

    def pages(self, path: str, **parameters: Any) -> list[dict[str, Any]]:
        """Every row of a list route, page after page."""
        rows: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = self.request("GET", path, params=parameters | ({} if cursor is None else {"cursor": cursor}))
            rows += page["rows"]
            cursor = page.get("next")
            if cursor is None:
                return rows
