"""Receivers of the audit log, as somebody else would run them: a syslog server over TLS, an HTTP endpoint."""

import asyncio
import datetime as dt
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.served import Served


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
    begin = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + dt.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "receiver.crt", folder / "receiver.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


class SyslogServer:
    """RFC 5425: takes messages by their lengths; anything else ends in `faults`."""

    def __init__(self, folder: Path, *, asks_for_certificate: bool = False) -> None:
        self.certificate, self._key = make_certificate(folder)
        self._asks = asks_for_certificate
        self.messages: list[str] = []
        self.faults: list[str] = []
        self.arrived = asyncio.Condition()
        self.port = 0
        self.stalls_after: int | None = None
        """Having read so many messages, it reads no more."""

    async def start(self) -> "SyslogServer":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self._key)
        if self._asks:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.certificate)
        self._server = Served(self._serve, self.port, tls=context)
        self.port = self._server.port
        return self

    async def stop(self) -> None:
        """Also whoever is connected is cut off, without a word."""
        await self._server.stop()

    async def until(self, count: int) -> list[str]:
        async with self.arrived:
            await self.arrived.wait_for(lambda: len(self.messages) >= count)
        return self.messages

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while length := await reader.readuntil(b" "):
                if not length[:-1].isdigit() or length.startswith(b"0"):
                    self.faults.append(f"no length: {length!r}")
                    return
                message = await reader.readexactly(int(length))
                async with self.arrived:
                    self.messages.append(message.decode())
                    self.arrived.notify_all()
                if len(self.messages) == self.stalls_after:
                    writer.transport.pause_reading()  # pyright: ignore[reportAttributeAccessIssue]  of one that reads, too
                    await asyncio.Event().wait()
        except (asyncio.IncompleteReadError, OSError) as error:
            if isinstance(error, asyncio.IncompleteReadError) and error.partial:
                self.faults.append("cut off")
        finally:
            writer.transport.abort()


class HttpReceiver:
    """Takes POSTs, answers what `answers` says next (else 204), keeps the bodies and headers of those it took."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.answers: list[int] = []
        self.arrived = asyncio.Condition()
        self.port = 0

    async def start(self) -> "HttpReceiver":
        self._server = Served(self._serve, self.port)
        self.port = self._server.port
        return self

    async def stop(self) -> None:
        await self._server.stop()

    @property
    def lines(self) -> list[str]:
        return "".join(self.bodies).splitlines()

    async def until(self, count: int) -> list[str]:
        async with self.arrived:
            await self.arrived.wait_for(lambda: len(self.lines) >= count)
        return self.lines

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            body = (await reader.readexactly(int(headers["content-length"]))).decode()
            status = self.answers.pop(0) if self.answers else 204
            if status < 300:
                async with self.arrived:
                    self.bodies.append(body)
                    self.headers.append(headers)
                    self.arrived.notify_all()
            to = "location: /elsewhere\r\n" if 300 <= status < 400 else ""
            writer.write(f"HTTP/1.1 {status} Said\r\n{to}connection: close\r\ncontent-length: 0\r\n\r\n".encode())
            await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            return
        finally:
            writer.close()
