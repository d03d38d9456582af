"""What an HTTP response says."""

from typing import Any

import httpx

from entobot.core.errors import Code, Problem


def answer(response: httpx.Response) -> dict[str, Any]:
    """The JSON body of a success. Raises Problem for a refusal, `internal` for an answer that is no problem+json."""
    if response.is_success:
        return response.json() if response.content else {}
    try:
        body: dict[str, Any] = response.json()
        problem = Problem(Code(body["code"]), str(body["detail"]), retry_after_s=body.get("retry_after_s"))
    except (ValueError, KeyError, TypeError):
        raise Problem(Code.INTERNAL, f"The gateway answered {response.status_code} without saying why.") from None
    problem.extra |= {k: v for k, v in body.items() if k not in problem.to_json()}
    raise problem
