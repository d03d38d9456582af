"""The certificate that is served while the gateway runs for longer than the certificate lives."""

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from entobot.app.gateway import Gateway
from entobot.app.posture import find_weak_points
from entobot.core.clock import SystemClock
from entobot.core.secrets import SystemEntropy, b64u
from entobot.home import Home
from entobot.sources import Layers
from entobot.telemetry.exposition import expose
from entobot.web.certificates import LocalTls, Machine, ensure_local_tls, fingerprint_sha256, spki_sha256
from tests.support.furnished import furnish
from tests.support.listening import raw
from tests.support.process import free_port

MACHINE = Machine(("localhost",), ("127.0.0.1",))
NAME = "entobot_certificate_end_timestamp_seconds "
ENTROPY = SystemEntropy()


def made(folder: Path, days: int = 0) -> LocalTls:
    now_ms = SystemClock().now_ms() + round(timedelta(days=days) / timedelta(milliseconds=1))
    return ensure_local_tls(folder, MACHINE, now_ms, ENTROPY)


@asynccontextmanager
async def started(folder: Path, **tls: object) -> AsyncGenerator[Gateway]:
    port = free_port()
    layers = Layers(
        {
            "gateway": {"host": "127.0.0.1", "port": port, "public_url": f"https://127.0.0.1:{port}"},
            "tls": tls,
            "agent": {"runner": "echo"},
        }
    )
    if not (folder / "home").exists():
        furnish(folder / "home")
    gateway = await Gateway.open(Home(folder / "home"), layers, {}, clock=SystemClock(), entropy=ENTROPY)
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()


@asynccontextmanager
async def given(folder: Path) -> AsyncGenerator[tuple[Gateway, LocalTls]]:
    tls = made(folder / "given", days=-20)
    async with started(folder, mode="given", certificate=tls.files.certificate, key=tls.files.key) as gateway:
        yield gateway, tls


async def end_s(gateway: Gateway) -> float:
    text = (await expose(gateway.ground.meters, ""))[0].decode()
    (line,) = [line for line in text.splitlines() if line.startswith(NAME)]
    return float(line.removeprefix(NAME))


async def events(gateway: Gateway) -> list[str]:
    page = await gateway.ground.database.read(gateway.audit.find)
    return [found.entry.event for found in page.entries if found.entry.event.startswith("certificate.")]


async def served(gateway: Gateway) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with raw(gateway.port, ssl=context) as client:
        der = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return ssl.DER_cert_to_PEM_cert(der).strip()


def pem(tls: LocalTls) -> str:
    return tls.files.certificate.read_text().strip()


async def test_the_metric_tells_when_the_certificate_ends_and_moves_when_it_is_replaced(tmp_path: Path) -> None:
    async with given(tmp_path) as (gateway, tls):
        assert await end_s(gateway) == tls.leaf.not_valid_after_utc.timestamp()
        tls.files.certificate.unlink()
        renewed = made(tmp_path / "given")
        assert renewed.leaf.not_valid_after_utc > tls.leaf.not_valid_after_utc
        await gateway.certificates.look()
        assert await end_s(gateway) == renewed.leaf.not_valid_after_utc.timestamp()


async def test_given_files_that_are_replaced_are_served_and_open_connections_stay(tmp_path: Path) -> None:
    async with given(tmp_path) as (gateway, tls):
        context = ssl.create_default_context(cafile=str(tls.files.certificate.parent / "ca.crt"))
        async with raw(gateway.port, ssl=context, server_hostname="localhost") as kept:
            for name in ("leaf.crt", "leaf.key"):
                (tmp_path / "given" / name).unlink()
            renewed = made(tmp_path / "given")
            await gateway.certificates.look()
            assert await served(gateway) == pem(renewed)
            await kept.send(b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await kept.response())[0] == 200
        assert gateway.pairing.spki == b64u(spki_sha256(renewed.leaf)), "links pin the key that is served"
        assert await events(gateway) == ["certificate.replaced"]
        state = gateway.certificates.state()
        assert (state.source, state.fingerprint, state.last_error) == ("given", fingerprint_sha256(renewed.leaf), None)


@pytest.mark.parametrize("broken", ["mismatched", "expired", "no certificate", "gone"])
async def test_given_files_that_do_not_hold_are_refused_once_and_the_old_ones_go_on(
    tmp_path: Path, broken: str
) -> None:
    async with given(tmp_path) as (gateway, tls):
        before = pem(tls)
        if broken == "mismatched":
            tls.files.certificate.write_text(pem(made(tmp_path / "other")))
        elif broken == "expired":
            ensure_local_tls(tmp_path / "old", MACHINE, 1_600_000_000_000, ENTROPY)
            for name in ("leaf.crt", "leaf.key"):
                (tmp_path / "given" / name).write_bytes((tmp_path / "old" / name).read_bytes())
        elif broken == "no certificate":
            tls.files.certificate.write_text("half a fi")
        else:
            tls.files.certificate.unlink()
        for _ in range(3):
            await gateway.certificates.look()
        assert await served(gateway) == before
        assert await events(gateway) == ["certificate.renewal_failed"], "each version of the files is told once"
        assert str(tmp_path / "given") in gateway.certificates.complaint()
        assert any("last try" in point.what for point in find_weak_points(gateway))
        checks = (await gateway.readiness.report()).checks
        assert [check.is_ok for check in checks if check.name == "renewal"] == [False]

        for name in ("leaf.crt", "leaf.key"):
            (tmp_path / "given" / name).unlink(missing_ok=True)
        renewed = made(tmp_path / "given")
        await gateway.certificates.look()
        assert await served(gateway) == pem(renewed)
        assert gateway.certificates.complaint() == ""


async def test_the_local_authority_makes_a_new_leaf_when_the_old_one_is_gone(tmp_path: Path) -> None:
    async with started(tmp_path) as gateway:
        first = await served(gateway)
        await gateway.certificates.look()
        assert await served(gateway) == first
        (tmp_path / "home" / "tls" / "leaf.crt").unlink()
        await gateway.certificates.look()
        assert await served(gateway) != first
        assert await events(gateway) == ["certificate.replaced"]
