"""The opening handshake (RFC 6455 §4.2). Pure: a request in, the bytes of the answer out."""

import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1

from entobot.web.refusal import refusal_response

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True, slots=True)
class UpgradeRequest:
    """`headers` has lower-case names; repeated fields are joined by ", " (RFC 9110 §5.3).

    `path` is without the query, which nobody may read. `peer` is the remote address, "" over the Unix socket.
    """

    path: str
    headers: Mapping[str, str]
    peer: str
    is_secure: bool


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether an upgrade is completed; `refusal` is the whole HTTP response otherwise."""

    subprotocol: str | None = None
    refusal: bytes | None = None

    @classmethod
    def refuse(cls, status: int, code: str, detail: str) -> "Admission":
        return cls(refusal=refusal_response(status, code, detail))


Admit = Callable[[Mapping[str, str], str], Admission]
"""`admit(headers, peer)`: the upgrade policy. It must neither block nor read cookies."""


class OriginPolicy:
    """An Origin, where there is one, must be on the list, letter by letter; no Origin means a native client.

    A client that offers subprotocols must offer one of ours; the first of ours that it offers is chosen.
    """

    def __init__(self, *, origins: Collection[str], subprotocols: Sequence[str]) -> None:
        self._origins = frozenset(origins)
        self._subprotocols = tuple(subprotocols)

    def __call__(self, headers: Mapping[str, str], peer: str) -> Admission:
        del peer
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins:
            return Admission.refuse(403, "forbidden", "This origin is not on the gateway's list.")
        offered = headers.get("sec-websocket-protocol")
        if offered is None:
            return Admission()
        names = {name.strip() for name in offered.split(",")}
        for ours in self._subprotocols:
            if ours in names:
                return Admission(subprotocol=ours)
        return Admission.refuse(400, "invalid", f"Offer the subprotocol {self._subprotocols[0]}, or none.")


def parse_request(head: bytes, *, peer: str, is_secure: bool) -> UpgradeRequest | None:
    """The request of which uvicorn rebuilt the text, or None when it is not a complete GET."""
    lines, separator, rest = head.partition(b"\r\n\r\n")
    request_line, *fields = lines.split(b"\r\n")
    parts = request_line.split(b" ")
    if not separator or rest or len(parts) != 3 or parts[0] != b"GET":
        return None
    headers: dict[str, str] = {}
    for field in fields:
        raw_name, colon, raw_value = field.partition(b":")
        if not colon:
            return None
        name = raw_name.decode("latin-1").lower()
        value = raw_value.strip(b" \t").decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    path = parts[1].decode("latin-1").partition("?")[0]
    return UpgradeRequest(path=path, headers=headers, peer=peer, is_secure=is_secure)


def handshake_fault(request: UpgradeRequest) -> bytes | None:
    """The refusal for a request that no policy could save, or None."""
    headers = request.headers
    if headers.get("sec-websocket-version") != "13":
        return refusal_response(
            426,
            "invalid",
            "Only WebSocket version 13 is spoken here.",
            headers=((b"sec-websocket-version", b"13"), (b"upgrade", b"websocket")),
        )
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        return refusal_response(400, "invalid", "A WebSocket upgrade has no body.")
    if not _is_key(headers.get("sec-websocket-key", "")):
        return refusal_response(400, "invalid", "Sec-WebSocket-Key must be 16 bytes in base64.")
    return None


def accepted_response(request: UpgradeRequest, subprotocol: str | None) -> bytes:
    key = request.headers["sec-websocket-key"].encode("ascii")
    accept = b64encode(sha1(key + _GUID).digest())  # noqa: S324  RFC 6455 §4.2.2 prescribes SHA-1; no secret is involved
    chosen = f"\r\nSec-WebSocket-Protocol: {subprotocol}".encode("ascii") if subprotocol else b""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accept
        + chosen
        + b"\r\n\r\n"
    )


def _is_key(text: str) -> bool:
    try:
        return len(b64decode(text.encode("ascii"), validate=True)) == 16
    except (UnicodeEncodeError, binascii.Error):
        return False
