"""Requests to addresses that people or browsers gave: they reach the public internet, and nothing inside.

A name is looked up once, every address it has is judged, and the connection goes to one that was judged: a name that
leads elsewhere a moment later changes nothing. Redirects are not followed, answers are read up to a bound.
"""

import asyncio
import importlib
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from entobot.core.networks import Address, Networks, is_public, plain_address

if TYPE_CHECKING:
    import httpx  # loaded with the first request: most gateways make none

TIMEOUT_S = 15.0
MAX_ANSWER_BYTES = 4096
MAX_ADDRESSES = 16
MAX_RETRY_AFTER_S = 6 * 3600.0


class AddressRefused(Exception):  # noqa: N818  reads as what happened
    """The URL leads where nobody outside may send the gateway. The text is for people, and names no address."""


class Unreachable(Exception):  # noqa: N818  reads as what happened
    """No answer came; the text says why, without a secret."""


@dataclass(frozen=True, slots=True)
class Reply:
    """`headers` have lower-case names; `body` is its beginning, 4 KiB where nothing else was said."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """An answer that is still coming. `pieces` may be read once, raises Unreachable, and has no end of its own."""

    status: int
    headers: Mapping[str, str]
    pieces: AsyncIterator[bytes]


Lookup = Callable[[str, int], list[str]]
"""Every address of a name. Blocks. Raises OSError, UnicodeError."""


def look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


class GuardedHttp:
    """`allowed` are networks that may be reached although they are not public; plain http works on loopback in them.
    `setting` is the section whose `private_networks` they are.

    `context` makes the TLS settings, which blocks; it is called once.
    """

    def __init__(
        self,
        allowed: Networks,
        context: Callable[[], ssl.SSLContext],
        lookup: Lookup = look_up,
        setting: str = "notifications",
        within_s: float = TIMEOUT_S,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self._within_s = within_s
        self._max_answer_bytes = max_answer_bytes
        self._allowed = allowed
        self._setting = setting
        self._make_context = context
        self._context: ssl.SSLContext | None = None
        self._lookup = lookup

    async def post(self, url: str, content: bytes, headers: Mapping[str, str]) -> Reply:
        """Raises AddressRefused, Unreachable."""
        await asyncio.to_thread(importlib.import_module, "httpx")
        import httpx

        try:
            async with asyncio.timeout(self._within_s), self._asked("POST", url, content, headers) as answer:
                body = await _beginning(answer, self._max_answer_bytes)
                return Reply(answer.status_code, dict(answer.headers), body)
        except TimeoutError:
            raise Unreachable(f"it did not answer within {self._within_s:.0f} s") from None
        except httpx.HTTPError as error:
            raise Unreachable(f"it cannot be reached ({type(error).__name__})") from None

    @asynccontextmanager
    async def open(self, method: str, url: str, content: bytes, headers: Mapping[str, str]) -> AsyncGenerator[Opened]:
        """An answer to be read as it comes; leaving the block ends the connection. Its head must be there in time, and
        so must each further piece; how much and how long in all is for the caller to bound.

        Raises AddressRefused, Unreachable.
        """
        await asyncio.to_thread(importlib.import_module, "httpx")
        import httpx

        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._within_s):
                    answer = await stack.enter_async_context(self._asked(method, url, content, headers))
            except TimeoutError:
                raise Unreachable(f"it did not answer within {self._within_s:.0f} s") from None
            except httpx.HTTPError as error:
                raise Unreachable(f"it cannot be reached ({type(error).__name__})") from None
            yield Opened(answer.status_code, dict(answer.headers), self._pieces(answer))

    async def _pieces(self, answer: "httpx.Response") -> AsyncIterator[bytes]:
        import httpx

        try:
            async for piece in answer.aiter_raw():
                yield piece
        except httpx.ReadTimeout:
            raise Unreachable(f"it was silent for {self._within_s:.0f} s") from None
        except httpx.HTTPError as error:
            raise Unreachable(f"it broke off ({type(error).__name__})") from None

    @asynccontextmanager
    async def _asked(
        self, method: str, url: str, content: bytes, headers: Mapping[str, str]
    ) -> AsyncGenerator["httpx.Response"]:
        import httpx

        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme not in ("https", "http") or not host or "@" in parts.netloc:
            raise AddressRefused("it is no https:// URL")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        address = await self._judged(host, port, is_plain=parts.scheme == "http")
        shown = f"[{address}]" if address.version == 6 else str(address)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        named = host if parts.port is None else f"{host}:{parts.port}"
        async with (
            # One client a request: connections to one address must not be shared by names with other certificates.
            httpx.AsyncClient(
                verify=await self._tls(), timeout=self._within_s, trust_env=False, follow_redirects=False
            ) as client,
            client.stream(
                method,
                f"{parts.scheme}://{shown}:{port}{path}",
                content=content,
                headers={
                    "host": f"[{host}]" if ":" in host else named,
                    "accept-encoding": "identity",  # what is read is read as it comes, and bounded as it comes
                    **headers,
                },
                extensions={"sni_hostname": host},
            ) as answer,
        ):
            yield answer

    async def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            try:
                self._context = await asyncio.to_thread(self._make_context)
            except OSError:  # ssl.SSLError among them
                raise Unreachable("the authority of its certificate cannot be read") from None
        return self._context

    async def _judged(self, host: str, port: int, *, is_plain: bool) -> Address:
        """An address of this name, all of which may be reached."""
        try:
            found = await asyncio.to_thread(self._lookup, host, port)
        except (OSError, UnicodeError):
            raise Unreachable("its name cannot be looked up") from None
        addresses = [plain_address(one) for one in found[:MAX_ADDRESSES]]
        if not addresses:
            raise Unreachable("its name has no address")
        for one in addresses:
            if not is_public(one) and one not in self._allowed:
                raise AddressRefused(
                    f"it leads to an address that is not public; {self._setting}.private_networks can allow it"
                )
            if is_plain and not (one.is_loopback and one in self._allowed):
                raise AddressRefused("it is plain http://, which is for allowed loopback addresses only")
        return addresses[0]


async def _beginning(answer: "httpx.Response", most: int) -> bytes:
    kept = b""
    async for piece in answer.aiter_raw():
        kept += piece
        if len(kept) >= most:
            break
    return kept[:most]


def retry_after_s(text: str, now_ms: int) -> float | None:
    """Seconds or a date (RFC 9110 §10.2.3), within bounds; None where it says neither."""
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        at_ms = parsedate_to_datetime(text).timestamp() * 1000
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, (at_ms - now_ms) / 1000), MAX_RETRY_AFTER_S)
