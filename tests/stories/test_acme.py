"""A gateway orders its certificate by itself, from a real authority (Pebble), and serves it without a restart."""

import socket
import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from entobot.client.local import LocalGateway
from tests.support.authority import NAME, Authority, pebble
from tests.support.process import GENEROUS_S, GatewayProcess, free_port


@dataclass
class Ordering:
    gateway: GatewayProcess
    authority: Authority
    http_port: int

    def state(self) -> dict[str, Any]:
        return LocalGateway(self.gateway.home / "gateway.sock").request("GET", "/api/v1/certificate")

    def wait(self, what: str) -> dict[str, Any]:
        """Until the first try has ended. `what` is the member that says how."""
        pause = threading.Event()
        for _ in range(round(GENEROUS_S * 10)):
            state = self.state()
            if state["source"] == "acme" or state["last_error"] is not None:
                assert state["last_error"] is None or what == "last_error", state
                return state
            pause.wait(0.1)
        raise AssertionError(self.state())

    def connect(self) -> ssl.SSLSocket:
        """As a phone that trusts the authority: the name must hold."""
        plain = socket.create_connection(("127.0.0.1", self.gateway.port), timeout=GENEROUS_S)
        return self.authority.root().wrap_socket(plain, server_hostname=NAME)


@contextmanager
def ordering(folder: Path, challenge: str, **settings: str) -> Generator[Ordering]:
    """A gateway and an authority that can reach it; not started."""
    port, http_port = free_port(), free_port()
    with pebble(folder / "authority", http_port=http_port, tls_port=port) as authority:
        environment = {
            "ENTOBOT_GATEWAY__PUBLIC_URL": f"https://{NAME}:{port}",
            "ENTOBOT_TLS__MODE": "acme",
            "ENTOBOT_TLS__HTTP_PORT": str(http_port),
            "ENTOBOT_ACME__AGREE": "true",
            "ENTOBOT_ACME__AUTHORITY": str(authority.ca_file),
            "ENTOBOT_ACME__CHALLENGE": challenge,
            "ENTOBOT_ACME__DIRECTORY": authority.directory,
            "ENTOBOT_ACME__EMAIL": "owner@example.org",
            **settings,
        }
        if challenge == "dns-01":
            environment["ENTOBOT_ACME__DNS_HOOK"] = str(authority.hook())
        gateway = GatewayProcess(folder / "home", port=port, environment=environment)
        try:
            yield Ordering(gateway, authority, http_port)
        finally:
            gateway.close()


@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01", "dns-01"])
def test_a_certificate_is_ordered_and_served_without_a_restart(tmp_path: Path, challenge: str) -> None:
    with ordering(tmp_path, challenge) as it:
        it.gateway.start()
        state = it.wait("source")
        assert (state["mode"], state["names"], state["last_error"]) == ("acme", [NAME], None)
        assert "Pebble" in state["issuer"]
        with it.connect() as connection:
            assert connection.selected_alpn_protocol() is None
        tls = it.gateway.home / "tls"
        assert {file.name: file.stat().st_mode & 0o777 for file in tls.iterdir()} == dict.fromkeys(
            ("acme-account.key", "acme.crt", "acme.json", "ca.crt", "ca.key", "leaf.crt", "leaf.key"), 0o600
        )
        if challenge == "dns-01":
            (added, removed) = it.authority.hook_calls()
            assert (added[:2], removed[:2]) == (
                ["add", f"_acme-challenge.{NAME}"],
                ["remove", f"_acme-challenge.{NAME}"],
            )
            assert added[2] == removed[2]
