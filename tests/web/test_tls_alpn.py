"""A tls-alpn-01 challenge on the port of everybody else: the authority sees it, phones do not."""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509

from entobot.core.clock import SystemClock
from entobot.core.secrets import SystemEntropy
from entobot.web.acme_challenges import TlsAlpn01
from entobot.web.acme_words import Present
from entobot.web.certificates import LocalTls, Machine, ensure_local_tls
from entobot.web.endpoints import TcpEndpoint
from entobot.web.http_protocol import HttpLimits
from tests.support.listening import PATIENCE_S, Serving, eventually, raw, serving

ON_EVERY_LOOP = True
IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
WANTED = Present(name="gateway.example.test", token="token", value="token.thumbprint")


def client_context(*protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(protocols)
    return context


@asynccontextmanager
async def challenged(
    folder: Path, limits: HttpLimits | None = None
) -> AsyncGenerator[tuple[Serving, LocalTls, TlsAlpn01]]:
    tls = ensure_local_tls(
        folder / "tls", Machine(("localhost",), ("127.0.0.1",)), SystemClock().now_ms(), SystemEntropy()
    )
    async with serving(endpoints=[TcpEndpoint("127.0.0.1", 0, tls.files)], limits=limits or HttpLimits()) as server:
        presenter = TlsAlpn01(folder, SystemClock(), server.listener.use_challenge)
        assert await presenter.present(WANTED) == ""
        yield server, tls, presenter


async def seen(server: Serving, *protocols: str) -> tuple[str | None, x509.Certificate]:
    async with raw(server.port, ssl=client_context(*protocols), server_hostname=WANTED.name) as client:
        shown = client.writer.get_extra_info("ssl_object")
        return shown.selected_alpn_protocol(), x509.load_der_x509_certificate(shown.getpeercert(binary_form=True))


async def test_the_authority_sees_the_challenge_and_everybody_else_the_certificate(tmp_path: Path) -> None:
    async with challenged(tmp_path) as (server, tls, presenter):
        protocol, shown = await seen(server, "acme-tls/1")
        assert protocol == "acme-tls/1"
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [WANTED.name]
        proof = shown.extensions.get_extension_for_oid(IDENTIFIER)
        assert proof.critical
        assert isinstance(proof.value, x509.UnrecognizedExtension)
        assert proof.value.value == b"\x04\x20" + sha256(WANTED.value.encode()).digest()
        for others in ((), ("http/1.1",), ("h2", "http/1.1")):
            assert (await seen(server, *others))[1] == tls.leaf
        await presenter.withdraw(WANTED)
        assert (await seen(server, "acme-tls/1"))[1] == tls.leaf
        assert not (tmp_path / ".acme-challenge.pem").exists()
        await eventually(lambda: server.listener.connection_count == 0 and server.waiting.held == 0)


async def test_an_authority_is_recognised_by_a_hello_that_arrives_in_pieces(tmp_path: Path) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context("acme-tls/1").wrap_bio(incoming, outgoing, server_hostname=WANTED.name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    async with challenged(tmp_path) as (server, _, _), raw(server.port) as link:
        for piece in (hello[:3], hello[3:40], hello[40:]):
            await link.send(piece)
            await eventually(lambda: server.waiting.held == 1)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                incoming.write(await link.reader.read(65536))
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    continue
        assert client.selected_alpn_protocol() == "acme-tls/1"


@pytest.mark.parametrize("begun", [b"", b"\x16", b"\x16\x03\x01\x40\x00" + b"x" * 50])
async def test_a_hello_that_does_not_come_is_cut_and_was_counted(tmp_path: Path, begun: bytes) -> None:
    limits = HttpLimits(tls_handshake=timedelta(milliseconds=150))
    async with challenged(tmp_path, limits) as (server, _, _):
        async with raw(server.port) as link:
            await link.send(begun)
            await eventually(lambda: server.waiting.held == 1)
            assert await link.to_end() == b""
        await eventually(lambda: server.waiting.held == 0 and server.listener.connection_count == 0)


@pytest.mark.parametrize("rubbish", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x00\x05hello"])
async def test_what_is_no_hello_ends_as_it_does_without_a_challenge(tmp_path: Path, rubbish: bytes) -> None:
    async with challenged(tmp_path) as (server, _, _):
        async with raw(server.port) as link:
            await link.send(rubbish)
            await link.to_end()
        await eventually(lambda: server.waiting.held == 0 and server.listener.connection_count == 0)
