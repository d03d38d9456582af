"""REST routes that providers of SMS call: translate only."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Path, Request, Response

from entobot.core.errors import Code, Problem
from entobot.notifications.sms_receipts import Arrived, Receipts
from entobot.web.routes import Api

MAX_BODY_BYTES = 8192
"""Before anybody knows who sends it. A receipt has less than one."""
FORM = "application/x-www-form-urlencoded"
MessageId = Annotated[str, Path(max_length=64)]


def add_routes(api: Api, receipts: Callable[[], Receipts | None]) -> None:
    """`receipts` answers None where SMS is not set up."""

    async def take(request: Request, provider: str, message_id: str = "") -> Response:
        found = receipts()
        if found is None:
            raise Problem(Code.NOT_FOUND, "This gateway sends no SMS.")
        query = request.url.query
        arrived = Arrived(
            target=request.scope["path"] + (f"?{query}" if query else ""),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.body(),
            message_id=message_id,
        )
        await found.take(provider, arrived, request.client.host if request.client else "")
        return Response(status_code=204)

    async def take_twilio_receipt(request: Request) -> Response:
        return await take(request, "twilio", request.path_params["message_id"])

    async def take_webhook_receipt(request: Request) -> Response:
        return await take(request, "webhook")

    problems = (Code.NOT_FOUND, Code.RECEIPT_REPEATED, Code.SIGNATURE_INVALID, Code.TOO_LARGE)
    api.add_raw(
        "POST",
        "/api/v1/sms/receipts/twilio/{message_id}",
        take_twilio_receipt,
        max_body_bytes=MAX_BODY_BYTES,
        media_type=FORM,
        problems=problems,
        operation=_operation("Status callback of Twilio", FORM, _TWILIO, _MESSAGE_ID),
    )
    api.add_raw(
        "POST",
        "/api/v1/sms/receipts/webhook",
        take_webhook_receipt,
        max_body_bytes=MAX_BODY_BYTES,
        problems=problems,
        operation=_operation("Receipt of a webhook", "application/json", _WEBHOOK),
    )


_MESSAGE_ID = {"name": "message_id", "in": "path", "required": True, "schema": {"type": "string", "maxLength": 64}}
_TWILIO = {
    "type": "object",
    "description": "As Twilio sends it, with `X-Twilio-Signature`.",
    "required": ["AccountSid", "MessageSid", "MessageStatus"],
    "properties": {name: {"type": "string"} for name in ("AccountSid", "ErrorCode", "MessageSid", "MessageStatus")},
}
_WEBHOOK = {
    "type": "object",
    "description": "Signed as Standard Webhooks says, with the secret in `sms.secret_file`.",
    "required": ["data"],
    "properties": {
        "type": {"type": "string"},
        "timestamp": {"type": "string"},
        "data": {
            "type": "object",
            "required": ["message_id", "state"],
            "properties": {
                "message_id": {"type": "string", "maxLength": 64},
                "state": {"enum": ["delivered", "failed", "sent"]},
                "reason": {"type": "string"},
            },
        },
    },
}


def _operation(summary: str, media_type: str, schema: object, *parameters: object) -> dict[str, object]:
    return {
        "summary": summary,
        "description": "For the provider that is set up. Anybody else's request bears no signature that is right.",
        "parameters": list(parameters),
        "requestBody": {"required": True, "content": {media_type: {"schema": schema}}},
        "responses": {"204": {"description": "Taken."}},
    }
