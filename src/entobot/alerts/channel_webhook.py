"""Alerts posted to an HTTP address, signed as Standard Webhooks (standardwebhooks.com, version 1) says."""

import asyncio
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from entobot.alerts.channel import ChannelFailed, Notice
from entobot.core.clock import Clock, rfc3339
from entobot.core.webhook_signing import decode_secret, signed

TIMEOUT_S = 15.0


class WebhookChannel:
    """See `Channel`. A 2xx answer is the receipt; redirects are not followed, nothing of the answer's body is read.

    The secret is read from its file for each message, so that it can be replaced. It goes where the settings say, also
    to private addresses: whoever writes them decides that, and nobody else can.
    """

    def __init__(self, url: str, secret_file: Path, context: Callable[[], ssl.SSLContext] | None, clock: Clock) -> None:
        self.place = urlsplit(url).hostname or ""
        self._url = url
        self._secret_file = secret_file
        self._context = context
        self._clock = clock

    async def send(self, notice: Notice) -> None:
        body = json.dumps(
            {"type": f"alert.{notice.kind}", "timestamp": rfc3339(notice.at_ms), "data": notice.data},
            ensure_ascii=False,
            separators=(",", ":"),
        ).encode()
        try:
            secret = await asyncio.to_thread(read_secret, self._secret_file)
            headers = {"content-type": "application/json"} | signed(
                secret, notice.message_id, self._clock.now_ms() // 1000, body
            )
            async with (
                asyncio.timeout(TIMEOUT_S),
                await self._client() as client,
                client.stream("POST", self._url, content=body, headers=headers) as answer,
            ):
                if not answer.is_success:
                    raise ChannelFailed(f"the receiver answered {answer.status_code}")
        except httpx.HTTPError as error:
            raise ChannelFailed(f"the receiver cannot be reached ({type(error).__name__})") from None
        except TimeoutError:
            raise ChannelFailed(f"the receiver did not answer within {TIMEOUT_S:.0f} s") from None
        except (OSError, ValueError) as error:
            raise ChannelFailed(str(error)) from None

    async def _client(self) -> httpx.AsyncClient:
        verify = True if self._context is None else await asyncio.to_thread(self._context)
        return httpx.AsyncClient(verify=verify, timeout=TIMEOUT_S, trust_env=False, follow_redirects=False)


def read_secret(file: Path) -> bytes:
    """What `whsec_` and base64 stand for. Blocks. Raises ValueError, OSError."""
    try:
        return decode_secret(file.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} holds {error}") from None
