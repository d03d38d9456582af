"""What is said to a nats-server whose MQTT listener asks the gateway who may come in: keys, tokens, subjects. Pure.

Keys are written as NATS does (base32 of a kind, 32 bytes and a CRC-16), tokens are JWTs of the kind `ed25519-nkey`.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from entobot.core.secrets import b64u, unb64u
from entobot.core.topic_limits import OWN, TopicLimits
from entobot.mqtt.policy import DOWNWARD

ACCOUNT_KIND = 0
MAX_REQUEST_BYTES = 64 * 1024
SESSIONS = "$MQTT.sub.>"
"""Where the server delivers what waits for an MQTT client; a client of MQTT cannot name it."""
_SAFE = re.compile(r"[A-Za-z0-9_-]+")
_HEAD = b64u(b'{"typ":"JWT","alg":"ed25519-nkey"}')


class Unreadable(Exception):  # noqa: N818  reads as what happened
    """A message of the server that this gateway does not understand."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody connects to the server. `user_key` is what the answer is about."""

    server_id: str
    user_key: str
    kind: str
    client_id: str
    host: str
    username: str
    password: str


@dataclass(frozen=True, slots=True)
class Entrant:
    """Who was let in, as the server names a connection's user: by which key, and to what that was limited."""

    device_id: str
    credential_id: str
    limits: str

    @classmethod
    def of(cls, device_id: str, credential_id: str, limits: TopicLimits) -> "Entrant":
        said = json.dumps([limits.publish, limits.subscribe])
        return cls(device_id, credential_id, sha256(said.encode()).hexdigest()[:16])

    @classmethod
    def parse(cls, name: str) -> "Entrant":
        """Of a name that this gateway did not give: nobody's key, which stands for nothing."""
        parts = name.split(":")
        return cls(*parts) if len(parts) == 3 else cls(parts[0], "", "")

    @property
    def name(self) -> str:
        return f"{self.device_id}:{self.credential_id}:{self.limits}"


class Issuer:
    """Signs answers and what boards may."""

    def __init__(self, seed: bytes) -> None:
        """`seed` are 32 bytes."""
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        raw = self._key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.public = _nkey(ACCOUNT_KIND, raw)

    def _sign(self, claims: dict[str, Any], now_s: int) -> str:
        said = claims | {"iss": self.public, "iat": now_s}
        named = said | {"jti": base64.b32encode(sha256(json.dumps(said).encode()).digest()).decode().rstrip("=")}
        body = f"{_HEAD}.{b64u(json.dumps(named).encode())}"
        return f"{body}.{b64u(self._key.sign(body.encode()))}"

    def refusal(self, asked: Asked, why: str, now_s: int) -> bytes:
        return self._answer(asked, {"error": why}, now_s)

    def admission(
        self, asked: Asked, by: "Entrant", limits: TopicLimits, account: str, ends_s: int, now_s: int
    ) -> bytes:  # fmt: skip
        """`ends_s` is when the server ends the connection, so that it asks anew. It shows `by.name` as its user."""
        may: dict[str, Any] = permissions(by.device_id, limits) | {
            "allowed_connection_types": ["MQTT", "MQTT_WS"],
            "subs": -1,
            "data": -1,
            "payload": -1,
            "type": "user",
            "version": 2,
        }
        user = {"sub": asked.user_key, "aud": account, "name": by.name, "exp": ends_s, "nats": may}
        return self._answer(asked, {"jwt": self._sign(user, now_s)}, now_s)

    def _answer(self, asked: Asked, said: dict[str, Any], now_s: int) -> bytes:
        told = {"type": "authorization_response", "version": 2} | said
        return self._sign({"sub": asked.user_key, "aud": asked.server_id, "nats": told}, now_s).encode()


def read_request(token: bytes) -> Asked:
    """Unverified: it comes from the server on a subject that only the server may use. Raises Unreadable."""
    try:
        found: Any = json.loads(unb64u(token[:MAX_REQUEST_BYTES].decode("ascii").split(".")[1]))["nats"]
        client, opts = found["client_info"], found["connect_opts"]
        asked = Asked(
            server_id=found["server_id"]["id"],
            user_key=found["user_nkey"],
            kind=client.get("type", ""),
            client_id=client.get("mqtt_id", ""),
            host=client.get("host", ""),
            username=opts.get("user", ""),
            password=opts.get("pass", ""),
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Unreadable(str(error)) from None
    if not all(isinstance(getattr(asked, name), str) for name in Asked.__slots__):
        raise Unreadable("a member that is no text")
    return asked


def permissions(device_id: str, limits: TopicLimits) -> dict[str, dict[str, list[str]]]:
    """The device's own subtree, narrowed; never another's, whatever limits name."""
    publish = _allowed(device_id, limits.publish)
    subscribe = _allowed(device_id, limits.subscribe)
    own = f"devices.{device_id}"
    downward = [f"{own}.{one}{end}" for one in sorted(DOWNWARD) for end in ("", ".>")]
    return {
        "pub": {"allow": publish, "deny": downward} if publish else {"deny": [">"]},
        "sub": {"allow": [*subscribe, SESSIONS]},
    }


def _allowed(device_id: str, filters: tuple[str, ...] | None) -> list[str]:
    own = f"devices.{device_id}"
    if filters is None:
        return [own, f"{own}.>"]
    return sorted({one for text in filters for one in _subjects_of(text, device_id)})


def _subjects_of(text: str, device_id: str) -> Iterator[str]:
    """Of one filter; nothing where it is another device's, or no subject says it."""
    levels = text.split("/")
    if levels == ["devices", "#"]:
        levels = ["devices", device_id, "#"]
    if len(levels) < 3 or levels[1] not in (OWN, "+", device_id):
        return
    is_open = levels[-1] == "#"
    rest = levels[2:-1] if is_open else levels[2:]
    if not all(level == "+" or _SAFE.fullmatch(level) for level in rest):
        return
    subject = ".".join(("devices", device_id, *("*" if level == "+" else level for level in rest)))
    yield subject
    if is_open:
        yield f"{subject}.>"


def topic_of(subject: str) -> tuple[str, str] | None:
    """The device's id and what follows it in the topic; None for what is not one of a device."""
    levels = subject.split(".")
    if len(levels) < 3 or levels[0] != "devices" or not all(map(_SAFE.fullmatch, levels)):
        return None
    return levels[1], "/".join(levels[2:])


def subject_of(device_id: str, topic: str) -> str:
    return f"devices.{device_id}.{topic.replace('/', '.')}"


def _nkey(kind: int, raw: bytes) -> str:
    body = bytes([kind]) + raw
    return base64.b32encode(body + binascii.crc_hqx(body, 0).to_bytes(2, "little")).decode().rstrip("=")
