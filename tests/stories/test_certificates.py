"""An operator looks after the certificate: what is served, how it is replaced, what is said when it cannot be."""

import json
import signal
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from entobot.core.clock import SystemClock
from entobot.core.secrets import SystemEntropy
from entobot.web.certificates import LocalTls, Machine, ensure_local_tls
from tests.support.process import GENEROUS_S, GatewayProcess

MACHINE = Machine(("localhost",), ("127.0.0.1",))


def made(folder: Path) -> LocalTls:
    return ensure_local_tls(folder, MACHINE, SystemClock().now_ms(), SystemEntropy())


def served(gateway: GatewayProcess) -> str:
    return ssl.get_server_certificate(("127.0.0.1", gateway.port)).strip()


@pytest.fixture
def given(tmp_path: Path) -> Iterator[tuple[GatewayProcess, LocalTls]]:
    tls = made(tmp_path / "given")
    environment = {
        "ENTOBOT_TLS__MODE": "given",
        "ENTOBOT_TLS__CERTIFICATE": str(tls.files.certificate),
        "ENTOBOT_TLS__KEY": str(tls.files.key),
    }
    gateway = GatewayProcess(tmp_path / "home", environment=environment).start()
    yield gateway, tls
    gateway.close()


def replace(tls: LocalTls) -> LocalTls:
    tls.files.certificate.unlink()
    tls.files.key.unlink()
    return made(tls.files.key.parent)


def test_the_status_tells_what_is_served(gateway: GatewayProcess) -> None:
    state = gateway.ask("cert", "status")
    assert (state["mode"], state["source"], state["last_error"]) == ("local-ca", "local-ca", None)
    assert state["names"]
    assert state["not_before"] < state["renews_at"] < state["not_after"]
    said = gateway.cli("cert", "status").stdout
    assert state["fingerprint"] in said
    assert "own authority" in said


def test_replaced_files_are_taken_up_when_the_operator_asks(given: tuple[GatewayProcess, LocalTls]) -> None:
    gateway, tls = given
    renewed = replace(tls)
    state = gateway.ask("cert", "renew")
    assert served(gateway) == renewed.files.certificate.read_text().strip()
    assert (state["source"], state["renews_at"], state["is_renewing"]) == ("given", None, False)

    renewed.files.key.write_bytes(made(tls.files.key.parent.parent / "other").files.key.read_bytes())
    refused = gateway.cli("cert", "renew", "--json")
    assert refused.returncode == 1
    assert "is not the key of" in json.loads(refused.stdout)["last_error"]["detail"]
    assert "failed at" in gateway.cli("cert", "status").stdout
    assert served(gateway) == renewed.files.certificate.read_text().strip()
    findings = {finding["name"]: finding for finding in json.loads(gateway.cli("doctor", "--json").stdout)}
    assert findings["renewal"]["level"] == "warning"


def test_a_hang_up_signal_takes_replaced_files_up(given: tuple[GatewayProcess, LocalTls]) -> None:
    gateway, tls = given
    renewed = replace(tls)
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGHUP)
    until = time.monotonic() + GENEROUS_S
    while served(gateway) != renewed.files.certificate.read_text().strip():
        assert time.monotonic() < until
    assert gateway.process.poll() is None
