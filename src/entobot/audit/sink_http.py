"""Records posted to an HTTP address. A 2xx answer is the receipt."""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from entobot.audit.sink import SinkFailed

TIMEOUT_S = 15.0


class HttpSink:
    """See `Sink`. The bearer token is read from its file for each request, so that it can be replaced."""

    overlap = 0
    is_open = True

    def __init__(
        self, url: str, media_type: str, token_file: Path | None, context: Callable[[], ssl.SSLContext] | None
    ) -> None:
        self._url = url
        self._media_type = media_type
        self._token_file = token_file
        self._context = context
        self._client: httpx.AsyncClient | None = None

    async def send(self, records: Sequence[str]) -> None:
        body = "".join(record if record.endswith("\n") else f"{record}\n" for record in records)
        try:
            headers = {"content-type": self._media_type} | await asyncio.to_thread(self._authorization)
            if self._client is None:
                self._client = await asyncio.to_thread(self._connect)
            async with self._client.stream("POST", self._url, content=body.encode("utf-8"), headers=headers) as answer:
                if not answer.is_success:
                    raise SinkFailed(f"the receiver answered {answer.status_code}")
        except httpx.HTTPError as error:
            raise SinkFailed(f"the receiver cannot be reached ({type(error).__name__})") from None
        except (OSError, UnicodeError, ValueError) as error:
            raise SinkFailed(str(error)) from None

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _connect(self) -> httpx.AsyncClient:
        verify = True if self._context is None else self._context()
        return httpx.AsyncClient(verify=verify, timeout=TIMEOUT_S, trust_env=False, follow_redirects=False)

    def _authorization(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        token = self._token_file.read_text("ascii").strip()
        if not token or len(token.split()) != 1:
            raise ValueError(f"{self._token_file} holds no token")
        return {"authorization": f"Bearer {token}"}
