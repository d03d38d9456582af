"""Adapter for services that have OpenAI's `POST /audio/transcriptions`."""

import asyncio
import importlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from entobot.core.secrets import Entropy
from entobot.voice.model import EXTENSIONS
from entobot.voice.transcriber import Fault, NotTranscribed, Recording

if TYPE_CHECKING:
    import httpx

MAX_ANSWER_BYTES = 256 * 1024
_FAULTS = {401: Fault.UNAUTHORIZED, 403: Fault.UNAUTHORIZED}
_SAID = {
    Fault.NOT_TAKEN: "The transcription service gave no usable answer.",
    Fault.TIMEOUT: "The transcription service did not answer in time.",
    Fault.UNAUTHORIZED: "The transcription service refused the key. Whoever runs this gateway must set a valid one.",
    Fault.UNREACHABLE: "The transcription service cannot be reached.",
}


class HttpTranscriber:
    """See `Transcriber`. `key` is asked for each time, and blocks; `check` refuses addresses that nobody may be sent to,
    by ValueError. The address comes from the operator's file: it may be a private one. Redirects are not followed,
    since they would carry the key along, and no proxy of the environment is asked.
    """

    def __init__(
        self,
        url: str,
        fields: Mapping[str, str],
        key: Callable[[], str],
        check: Callable[[str], None],
        timeout: timedelta,
        entropy: Entropy,
    ) -> None:
        self._url = f"{url}/audio/transcriptions"
        self._fields = {name: value for name, value in fields.items() if value} | {"response_format": "json"}
        self._key = key
        self._check = check
        self._timeout = timeout
        self._entropy = entropy

    async def transcribe(self, recording: Recording) -> str:
        await asyncio.to_thread(importlib.import_module, "httpx")  # loaded with the first recording
        import httpx

        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                return await self._ask(recording)
        except TimeoutError:
            raise _failure(Fault.TIMEOUT) from None
        except (httpx.HTTPError, ValueError, OSError):
            raise _failure(Fault.UNREACHABLE) from None

    async def _ask(self, recording: Recording) -> str:
        import httpx

        await asyncio.to_thread(self._check, self._url)
        key = await asyncio.to_thread(self._key)
        boundary = self._entropy.bytes(16).hex()
        head, tail = self._around(recording, boundary)
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(head) + recording.size + len(tail)),
            "Accept": "application/json",
        } | ({"Authorization": f"Bearer {key}"} if key else {})
        client = await asyncio.to_thread(httpx.AsyncClient, follow_redirects=False, trust_env=False, timeout=None)
        async with (
            client,
            client.stream("POST", self._url, content=_body(head, recording.content, tail), headers=headers) as answer,
        ):
            if answer.status_code != HTTPStatus.OK:
                raise _failure(_FAULTS.get(answer.status_code, Fault.NOT_TAKEN))
            return _text(await _bounded(answer))

    def _around(self, recording: Recording, boundary: str) -> tuple[bytes, bytes]:
        """What stands before and after the recording in the form (RFC 7578)."""
        fields = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in self._fields.items()
        )
        ending = EXTENSIONS[recording.media_type]
        file = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="recording.{ending}"\r\n'
            f"Content-Type: {recording.media_type}\r\n\r\n"
        )
        return (fields + file).encode(), f"\r\n--{boundary}--\r\n".encode()


async def _body(head: bytes, content: AsyncIterator[bytes], tail: bytes) -> AsyncIterator[bytes]:
    yield head
    async for part in content:
        yield part
    yield tail


async def _bounded(answer: "httpx.Response") -> bytes:
    body = b""
    async for chunk in answer.aiter_raw(16 * 1024):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise _failure(Fault.NOT_TAKEN)
    return body


def _text(body: bytes) -> str:
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise _failure(Fault.NOT_TAKEN) from None
    text: Any = cast("dict[str, Any]", found).get("text") if isinstance(found, dict) else None
    if not isinstance(text, str):
        raise _failure(Fault.NOT_TAKEN)
    return text


def _failure(fault: Fault) -> NotTranscribed:
    return NotTranscribed(fault, _SAID[fault])
