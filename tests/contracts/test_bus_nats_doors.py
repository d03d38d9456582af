"""Real nats-servers that ask for credentials or speak TLS, and what is said when the door stays shut."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from entobot.bus.bus_nats import nats_bus
from entobot.bus.remote import RemoteBus
from entobot.bus.sealing import Seal
from entobot.core.clock import SystemClock
from entobot.core.errors import StartupRefused
from entobot.core.secrets import SystemEntropy
from entobot.web.certificates import LocalTls, ensure_local_tls, this_machine
from tests.support.nats import NatsServer
from tests.support.process import GENEROUS_S

PASSWORD = "p@ss/w?rd#1"
ENCODED = "p%40ss%2Fw%3Frd%231"

Serve = Callable[[str], NatsServer]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    servers: list[NatsServer] = []

    def start(extra: str) -> NatsServer:
        servers.append(NatsServer(tmp_path, extra=extra).start())
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def certificate(tmp_path: Path) -> LocalTls:
    (tmp_path / "tls").mkdir(mode=0o700)
    return ensure_local_tls(tmp_path / "tls", this_machine(), SystemClock().now_ms(), SystemEntropy())


def make(url: str, authority: str | None = None) -> RemoteBus:
    entropy = SystemEntropy()
    return nats_bus(
        url, subject="entobot.t", node_id="n", seal=Seal(b"k" * 32, entropy), entropy=entropy, authority=authority
    )


async def outcome(bus: RemoteBus) -> str:
    """`connected`, or what the bus says once it has tried."""
    await bus.start()
    try:
        async with asyncio.timeout(GENEROUS_S):
            while bus.health().detail == "not connected yet":  # noqa: ASYNC110  health is asked for
                await asyncio.sleep(0.01)
        return "connected" if bus.health().is_connected else bus.health().detail
    finally:
        await bus.stop()


@pytest.mark.parametrize(
    ("who", "credentials"),
    [
        (f'user: ento, password: "{PASSWORD}"', f"ento:{ENCODED}"),
        (f'token: "{PASSWORD}"', ENCODED),
    ],
    ids=["user and password", "token"],
)
async def test_credentials_in_the_url_open_and_wrong_ones_are_told_without_being_shown(
    serve: Serve, who: str, credentials: str
) -> None:
    server = serve(f"authorization {{ {who} }}")
    assert await outcome(make(f"nats://{credentials}@127.0.0.1:{server.port}")) == "connected"
    for wrong in (f"{credentials}topsecret@", ""):
        said = await outcome(make(f"nats://{wrong}127.0.0.1:{server.port}"))
        assert "uthorization" in said, said
        assert "topsecret" not in said
        assert PASSWORD not in said


async def test_tls_is_believed_with_the_authority_that_was_named_and_with_no_other(
    serve: Serve, certificate: LocalTls
) -> None:
    files = certificate.files
    server = serve(f'tls {{ cert_file: "{files.certificate}", key_file: "{files.key}" }}')
    authority = str(files.certificate.parent / "ca.crt")
    assert await outcome(make(f"tls://127.0.0.1:{server.port}", authority)) == "connected"
    said = await outcome(make(f"tls://127.0.0.1:{server.port}"))
    assert "certificate verify failed" in said.lower()


async def test_nothing_is_sent_in_the_clear_to_a_server_without_tls_where_tls_was_asked_for(
    serve: Serve, certificate: LocalTls
) -> None:
    server = serve(f'authorization {{ user: ento, password: "{PASSWORD}" }}')
    authority = str(certificate.files.certificate.parent / "ca.crt")
    said = await outcome(make(f"tls://ento:{ENCODED}@127.0.0.1:{server.port}", authority))
    assert "offers no TLS" in said
    said = await outcome(make(f"tls://127.0.0.1:{serve('').port}", authority))
    assert "offers no TLS" in said


@pytest.mark.parametrize(
    "url",
    [
        "http://host",
        "nats://",
        "nats://host:99999",
        "nats://host:port",
        "nats://[::1",
        "nats://u:topsecret#more@host",
        "nats://u:1234/topsecret@host",
        "nats://one,redis://two",
        " , ",
    ],
)
def test_an_address_that_is_not_right_is_refused_at_start_without_a_piece_of_the_password(url: str) -> None:
    with pytest.raises(StartupRefused, match=r"bus\.url") as refused:
        make(url)
    assert "topsecret" not in str(refused.value)
    assert "1234" not in str(refused.value)


def test_an_authority_that_cannot_be_read_is_refused_at_start(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.pem", tmp_path / "empty.pem"):
        if path.name == "empty.pem":
            path.touch()
        with pytest.raises(StartupRefused, match=r"bus\.authority"):
            make("tls://host", str(path))
