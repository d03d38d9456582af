"""A gateway orders its certificate by itself, from a real authority (Pebble), and serves it without a restart."""

import socket
import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
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
def ordering(
    folder: Path, challenge: str, account: tuple[str, str] | None = None, **settings: str
) -> Generator[Ordering]:
    """A gateway and an authority that can reach it; not started."""
    port, http_port = free_port(), free_port()
    with pebble(folder / "authority", http_port=http_port, tls_port=port, account=account) as authority:
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


def test_a_renewal_is_served_while_connections_stay_and_a_restart_keeps_it(tmp_path: Path) -> None:
    with ordering(tmp_path, "tls-alpn-01") as it:
        it.gateway.start()
        first = it.wait("source")
        with it.connect() as kept:
            renewed = it.gateway.ask("cert", "renew")
            assert renewed["fingerprint"] != first["fingerprint"]
            assert (renewed["source"], renewed["last_error"]) == ("acme", None)
            kept.sendall(b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert kept.recv(65536).startswith(b"HTTP/1.1 200")
            with it.connect() as new:
                assert new.getpeercert(binary_form=True) != kept.getpeercert(binary_form=True)
        account = (it.gateway.home / "tls" / "acme-account.key").read_bytes()
        it.gateway.kill()
        it.gateway.start()
        assert it.state()["fingerprint"] == renewed["fingerprint"]
        assert "phones warn" not in it.gateway.banner
        assert (it.gateway.home / "tls" / "acme-account.key").read_bytes() == account
        issued = it.gateway.ask("audit", "list", "--event", "certificate.")
        assert [entry["event"] for entry in issued] == ["certificate.issued"] * 2
        assert issued[0]["facts"]["source"] == "acme"


def test_an_authority_that_cannot_reach_the_name_is_told_with_what_to_do(tmp_path: Path) -> None:
    wrong = str(free_port())
    with ordering(tmp_path, "http-01", ENTOBOT_TLS__HTTP_PORT=wrong) as it:
        it.gateway.start()
        state = it.wait("last_error")
        assert state["source"] == "local-ca", "it is up all the same"
        said = state["last_error"]["detail"]
        for part in (NAME, "port 80 must be reachable from the whole Internet", f"port {wrong}", "Next try: "):
            assert part in said
        assert state["renews_at"] in said
        assert "last try" in it.gateway.cli("doctor").stdout

        it.gateway.stop()
        it.gateway.start()
        assert "port 80 must be reachable" in it.gateway.banner, "it remembers, and does not order at every start"
        assert it.state()["renews_at"] == state["renews_at"]

        it.gateway.stop()
        it.gateway.environment["ENTOBOT_TLS__HTTP_PORT"] = str(it.http_port)
        it.gateway.start()
        assert it.gateway.ask("cert", "renew")["source"] == "acme"
        assert "last try" not in it.gateway.cli("doctor").stdout


def test_a_hook_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    with ordering(tmp_path, "dns-01") as it:
        hook = it.authority.folder / "hook"
        hook.write_text("#!/bin/sh\necho 'the zone is locked' >&2\nexit 3\n")
        it.gateway.start()
        said = it.wait("last_error")["last_error"]["detail"]
        assert f"'{hook} add' ended with 3: the zone is locked" in said


def test_an_authority_may_want_an_account_that_it_knows(tmp_path: Path) -> None:
    key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    with ordering(tmp_path, "http-01", account=("kid-1", key)) as it:
        it.gateway.start()
        said = it.wait("last_error")["last_error"]["detail"]
        assert "acme.eab_kid" in said
        it.gateway.stop()
        file = tmp_path / "hmac"
        file.write_text(f"{key}\n")
        it.gateway.environment |= {"ENTOBOT_ACME__EAB_KID": "kid-1", "ENTOBOT_ACME__EAB_KEY_FILE": str(file)}
        it.gateway.start()
        assert it.wait("source")["source"] == "acme"
        for place in (it.gateway.log, it.gateway.home / "tls" / "acme.json"):
            assert key not in place.read_text()


def test_the_plain_port_sends_browsers_to_the_name(tmp_path: Path) -> None:
    with ordering(tmp_path, "dns-01") as it:
        it.gateway.start()
        answer = httpx.get(f"http://127.0.0.1:{it.http_port}/pair?x=1", headers={"Host": "evil.example"})
        assert (answer.status_code, answer.headers["location"]) == (308, f"https://{NAME}:{it.gateway.port}/pair?x=1")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ENTOBOT_ACME__AGREE": "false"}, "set acme.agree = true"),
        ({"ENTOBOT_GATEWAY__PUBLIC_URL": ""}, "gateway.public_url with a DNS name"),
        ({"ENTOBOT_GATEWAY__PUBLIC_URL": "https://192.0.2.1"}, "gateway.public_url with a DNS name"),
        ({"ENTOBOT_ACME__NAMES": "other.example.org"}, "acme.names must hold gateway.example.test"),
        ({"ENTOBOT_ACME__NAMES": "*.example.test"}, "by challenge dns-01 only"),
        ({"ENTOBOT_ACME__NAMES": "a b;c.example"}, "no DNS name"),
        ({"ENTOBOT_ACME__CHALLENGE": "dns-01"}, "needs dns_hook"),
        ({"ENTOBOT_ACME__DIRECTORY": "http://ca.example/dir"}, "https://"),
        ({"ENTOBOT_ACME__EAB_KID": "kid"}, "belong together"),
        (
            {"ENTOBOT_ACME__CHALLENGE": "tls-alpn-01", "ENTOBOT_GATEWAY__ALLOWED_NETWORKS": "10.0.0.0/8"},
            "cannot work with gateway.allowed_networks",
        ),
        ({"ENTOBOT_TLS__MODE": "off", "ENTOBOT_TLS__HTTP_PORT": "8080"}, "tls.http_port needs TLS"),
        ({"ENTOBOT_TLS__HTTP_PORT": "18443"}, "a port of its own"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_ordered(
    tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    environment = {
        "ENTOBOT_GATEWAY__PUBLIC_URL": f"https://{NAME}",
        "ENTOBOT_TLS__MODE": "acme",
        "ENTOBOT_ACME__AGREE": "true",
        **settings,
    }
    gateway = GatewayProcess(tmp_path / "home", port=18443, environment=environment)
    for command in (("config", "check"), ("up",)):
        done = gateway.cli(*command)
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr
