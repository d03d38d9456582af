"""Requests to providers of SMS: bounded, to the configured address alone, and what their failures mean."""

import asyncio
import importlib
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from entobot.notifications.sms import SmsNotTaken, SmsOutcomeUnknown

if TYPE_CHECKING:
    import httpx

TIMEOUT_S = 15.0
MAX_ANSWER_BYTES = 64 * 1024
MAX_SECRET_CHARACTERS = 4096

MakeContext = Callable[[], ssl.SSLContext]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


class Requests:
    """Posts to one address. Redirects are not followed and no proxy of the environment is asked. `context` None: plain
    HTTP, which the settings allow on this machine only.

    The address comes from the operator's file and nobody else, so that it may be a private one.
    """

    def __init__(self, context: MakeContext | None) -> None:
        self._context = context

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Raises SmsNotTaken where nothing was sent, SmsOutcomeUnknown where the answer was lost."""
        # Most gateways send no SMS, and need not load what sends them.
        await asyncio.to_thread(importlib.import_module, "httpx")
        import httpx

        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                await self._client() as client,
                client.stream("POST", url, content=body, headers=dict(headers)) as answer,
            ):
                return Answer(answer.status_code, await _bounded(answer))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise SmsNotTaken(f"the provider cannot be reached ({type(error).__name__})") from None
        except httpx.HTTPError as error:
            raise SmsOutcomeUnknown(f"the provider's answer was lost ({type(error).__name__})") from None
        except TimeoutError:
            raise SmsOutcomeUnknown(f"the provider did not answer within {TIMEOUT_S:.0f} s") from None
        except OSError as error:  # before the first byte: the authority's file
            raise SmsNotTaken(f"sms.authority cannot be read ({error.strerror})") from None

    async def _client(self) -> "httpx.AsyncClient":
        import httpx

        verify = True if self._context is None else await asyncio.to_thread(self._context)
        return httpx.AsyncClient(verify=verify, timeout=TIMEOUT_S, trust_env=False, follow_redirects=False)


async def _bounded(answer: "httpx.Response") -> bytes:
    body = b""
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise SmsOutcomeUnknown("the provider's answer is too long")
    return body


async def read_secret(file: Path) -> str:
    """What stands in the file. Raises SmsNotTaken."""
    try:
        text = (await asyncio.to_thread(file.read_text, "utf-8")).strip()
    except (OSError, UnicodeDecodeError):
        text = ""
    if not 0 < len(text) <= MAX_SECRET_CHARACTERS:
        raise SmsNotTaken("sms.secret_file cannot be read, or is empty")
    return text
