"""Which model a server serves, asked of a server that may be broken or hostile.

Blocks. A server decides neither how long it takes nor how much memory: the whole question has one deadline, and more
than a list of models is not read.
"""

import asyncio
import json
from datetime import timedelta

from entobot.agents.runner import RunErrorCode, RunFailed
from entobot.core.names import is_showable

WITHIN = timedelta(seconds=10)
MAX_ANSWER_BYTES = 1_000_000
MAX_ID_CHARACTERS = 200


def served_model(base_url: str, api_key: str | None, within: timedelta = WITHIN) -> str:
    """The first model that an OpenAI-compatible server lists, within that time in all. Raises RunFailed."""
    import httpx

    try:
        # A loop of its own: only there can whatever it waits for, down to the headers, be given up.
        found = json.loads(asyncio.run(_listed(base_url, api_key, within)))["data"][0]["id"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError, RecursionError, TimeoutError):
        raise _unknown() from None
    if not isinstance(found, str) or len(found) > MAX_ID_CHARACTERS or not is_showable(found):
        raise _unknown()
    return found


async def _listed(base_url: str, api_key: str | None, within: timedelta) -> bytes:
    import httpx

    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    headers["Accept-Encoding"] = "identity"  # a little that unpacks to a lot is not read either
    async with asyncio.timeout(within.total_seconds()), httpx.AsyncClient(timeout=within.total_seconds()) as client:  # noqa: SIM117  the answer needs the client
        async with client.stream("GET", f"{base_url.rstrip('/')}/models", headers=headers) as answer:
            if answer.status_code in (401, 403):
                text = "The model server refused the key. Whoever runs this gateway must set a valid one."
                raise RunFailed(RunErrorCode.PROVIDER_UNAUTHORIZED, text)
            answer.raise_for_status()
            body = bytearray()
            async for piece in answer.aiter_raw():
                body += piece
                if len(body) > MAX_ANSWER_BYTES:
                    raise _unknown()
            return bytes(body)


def _unknown() -> RunFailed:
    text = "The model server does not say which model it serves. Is it running? Otherwise set agent.model."
    return RunFailed(RunErrorCode.PROVIDER_UNREACHABLE, text)
