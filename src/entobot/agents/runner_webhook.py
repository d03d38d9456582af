"""Runner adapter for a program behind a URL: it is posted the conversation, signed, and answers with a text.

The body is `{"type": "message", "run_id", "conversation_id", "messages": [{"role", "content"}]}`, oldest first; the answer
`{"text": "…"}`. Signed as Standard Webhooks does; `webhook-id` is the run's id, which a repeat has as well.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import cast

from entobot.agents.model import MAX_ANSWER_BYTES
from entobot.agents.runner import RunErrorCode, RunFailed, TextDelta, TurnEnd, TurnEvent, TurnRequest
from entobot.core.clock import Clock
from entobot.core.webhook_signing import decode_secret, signed
from entobot.outgoing.guarded_http import AddressRefused, GuardedHttp, Reply, Unreachable

MAX_REPLY_BYTES = 2 * MAX_ANSWER_BYTES
"""What `http` must read of an answer at least; a longer one is refused."""


class WebhookRunner:
    """See `Runner`. `secret_file` is read for each message, so that it can be replaced."""

    def __init__(self, name: str, url: str, secret_file: Path, http: GuardedHttp, clock: Clock) -> None:
        self.name = name
        self._url = url
        self._secret_file = secret_file
        self._http = http
        self._clock = clock

    async def turn(self, request: TurnRequest) -> AsyncIterator[TurnEvent]:
        text = _text(self.name, await self._ask(request))
        yield TextDelta(text)
        yield TurnEnd(text, (), "")

    async def close(self) -> None:
        """Nothing is held."""

    async def _ask(self, request: TurnRequest) -> Reply:
        said = {
            "type": "message",
            "run_id": request.run_id,
            "conversation_id": request.conversation_id,
            "messages": [
                {"role": line.speaker.value, "content": line.told_without_pictures()} for line in request.transcript
            ],
        }
        body = json.dumps(said, ensure_ascii=False).encode()
        try:
            secret = decode_secret(await asyncio.to_thread(self._secret_file.read_text, "ascii"))
        except (OSError, ValueError):
            text = f"{self.name} cannot be asked: its secret_file cannot be used. Whoever runs this gateway must look."
            raise RunFailed(RunErrorCode.AGENT_NOT_READY, text) from None
        headers = signed(secret, request.run_id, self._clock.now_ms() // 1000, body)
        try:
            return await self._http.post(self._url, body, {"content-type": "application/json", **headers})
        except AddressRefused as refusal:
            text = f"{self.name} cannot be asked: {refusal}."
            raise RunFailed(RunErrorCode.PROVIDER_REJECTED, text) from None
        except Unreachable as failure:
            raise RunFailed(RunErrorCode.PROVIDER_UNREACHABLE, f"{self.name} did not answer: {failure}.") from None


def _text(name: str, reply: Reply) -> str:
    """Raises RunFailed; nothing of what a refusal says is shown."""
    codes = {
        HTTPStatus.UNAUTHORIZED: RunErrorCode.PROVIDER_UNAUTHORIZED,
        HTTPStatus.FORBIDDEN: RunErrorCode.PROVIDER_UNAUTHORIZED,
        HTTPStatus.TOO_MANY_REQUESTS: RunErrorCode.PROVIDER_RATE_LIMITED,
    }
    if reply.status != HTTPStatus.OK:
        is_final = 300 <= reply.status < 500
        code = codes.get(
            cast("HTTPStatus", reply.status),
            RunErrorCode.PROVIDER_REJECTED if is_final else RunErrorCode.PROVIDER_ERROR,
        )
        raise RunFailed(code, f"{name} answered with HTTP {reply.status}.")
    if len(reply.body) >= MAX_REPLY_BYTES:
        raise RunFailed(RunErrorCode.ANSWER_TOO_LARGE, f"{name} answered with more than {MAX_ANSWER_BYTES} bytes.")
    try:
        value: object = json.loads(reply.body)
    except (ValueError, RecursionError):
        value = None
    text = cast("dict[str, object]", value).get("text") if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise RunFailed(RunErrorCode.PROVIDER_ERROR, f"{name} gave no answer that can be read.")
    return text
