"""A push service as others run them (RFC 8030): it takes, checks the sender's signature, and decrypts for the tests.

Decryption is http_ece's, the reference implementation; the signature is checked with `cryptography` alone.
"""

import asyncio
import base64
import json
from dataclasses import dataclass, field
from typing import Any

import http_ece
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.served import Served

TOPIC_CHARACTERS = 32


def b64u(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64u(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Subscriber:
    """A browser: its keys never leave it."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    auth: bytes = bytes(range(16))

    @property
    def point(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def keys(self) -> dict[str, str]:
        return {"p256dh": b64u(self.point), "auth": b64u(self.auth)}

    def open(self, body: bytes) -> dict[str, Any]:
        plain = http_ece.decrypt(body, private_key=self.key, auth_secret=self.auth, version="aes128gcm")
        return json.loads(plain)


@dataclass(frozen=True)
class Push:
    path: str
    headers: dict[str, str]
    body: bytes

    def claims(self) -> dict[str, Any]:
        """Of the sender's token, whose signature by the key beside it is verified."""
        scheme, _, rest = self.headers["authorization"].partition(" ")
        parts = dict(part.strip().split("=", 1) for part in rest.split(","))
        head, claims, signature = parts["t"].split(".")
        assert scheme == "vapid"
        assert json.loads(unb64u(head))["alg"] == "ES256"
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), unb64u(parts["k"]))
        raw = unb64u(signature)
        der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        key.verify(der, f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))
        return json.loads(unb64u(claims)) | {"k": parts["k"]}


class PushService:
    """Listens on loopback. `answers` are what the next requests get instead of 201: a status, and headers."""

    def __init__(self) -> None:
        self.pushes: list[Push] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.is_mute = False
        self.arrived = asyncio.Condition()
        self.port = 0

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> "PushService":
        self._server = Served(self._serve, self.port)
        self.port = self._server.port
        return self

    async def stop(self) -> None:
        await self._server.stop()

    async def until(self, count: int) -> list[Push]:
        async with self.arrived:
            await self.arrived.wait_for(lambda: len(self.pushes) >= count)
        return self.pushes

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            async with self.arrived:
                self.pushes.append(Push(head[0].split(" ")[1], headers, body))
                self.arrived.notify_all()
            if self.is_mute:
                await reader.read()
                return
            status, more = self.answers.pop(0) if self.answers else (201, {})
            lines = [f"HTTP/1.1 {status} X", "content-length: 0", *(f"{name}: {value}" for name, value in more.items())]
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
