"""REST routes that providers of SMS call: translate only."""

from collections.abc import Callable, Mapping

from fastapi import Request, Response

from entobot.core.errors import Code, Problem
from entobot.notifications.sms_receipts import Arrived, Receipts
from entobot.web.bodies import JSON
from entobot.web.routes import Api

MAX_BODY_BYTES = 8192
"""Before anybody knows who sends it. A receipt has less than one."""
FORM = "application/x-www-form-urlencoded"


def add_routes(api: Api, receipts: Callable[[], Receipts | None]) -> None:
    """`receipts` answers None where SMS is not set up."""
    routes = _Routes(receipts)
    twiml = {"200": {"description": "Heard.", "content": {"text/xml": {"schema": {"type": "string"}}}}}
    base = "/api/v1/sms"
    for path, endpoint, media_type, operation in (
        ("answers/twilio", routes.hear_twilio, FORM, _operation("SMS to Twilio", FORM, _TWILIO_ANSWER, answers=twiml)),
        ("answers/webhook", routes.hear_webhook, JSON, _operation("SMS to a webhook", JSON, _WEBHOOK_ANSWER)),
        (
            "receipts/twilio/{message_id}",
            routes.take_twilio_receipt,
            FORM,
            _operation("Status callback of Twilio", FORM, _TWILIO, _MESSAGE_ID),
        ),
        ("receipts/webhook", routes.take_webhook_receipt, JSON, _operation("Receipt of a webhook", JSON, _WEBHOOK)),
    ):
        api.add_raw(
            "POST",
            f"{base}/{path}",
            endpoint,
            max_body_bytes=MAX_BODY_BYTES,
            media_type=media_type,
            problems=(Code.NOT_FOUND, Code.RECEIPT_REPEATED, Code.SIGNATURE_INVALID, Code.TOO_LARGE),
            operation=operation,
        )


class _Routes:
    def __init__(self, receipts: Callable[[], Receipts | None]) -> None:
        self._receipts = receipts

    async def hear_twilio(self, request: Request) -> Response:
        found, what, address = await self._arrived(request)
        await found.hear("twilio", what, address)
        return Response("<Response/>", media_type="text/xml")  # TwiML: the carrier has answered already

    async def hear_webhook(self, request: Request) -> Response:
        found, what, address = await self._arrived(request)
        await found.hear("webhook", what, address)
        return Response(status_code=204)

    async def take_twilio_receipt(self, request: Request) -> Response:
        found, what, address = await self._arrived(request, request.path_params["message_id"])
        await found.take("twilio", what, address)
        return Response(status_code=204)

    async def take_webhook_receipt(self, request: Request) -> Response:
        found, what, address = await self._arrived(request)
        await found.take("webhook", what, address)
        return Response(status_code=204)

    async def _arrived(self, request: Request, message_id: str = "") -> tuple[Receipts, Arrived, str]:
        found = self._receipts()
        if found is None:
            raise Problem(Code.NOT_FOUND, "This gateway sends no SMS.")
        query = request.url.query
        what = Arrived(
            target=request.scope["path"] + (f"?{query}" if query else ""),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.body(),
            message_id=message_id,
        )
        return found, what, request.client.host if request.client else ""


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


_TWILIO_ANSWER = {
    "type": "object",
    "description": "As Twilio sends it, with `X-Twilio-Signature`. STOP and START are heard.",
    "required": ["AccountSid", "MessageSid", "From", "Body"],
    "properties": {name: {"type": "string"} for name in ("AccountSid", "Body", "From", "MessageSid", "OptOutType")},
}
_WEBHOOK_ANSWER = {
    "type": "object",
    "description": "Signed as Standard Webhooks says. STOP and START are heard.",
    "required": ["data"],
    "properties": {
        "type": {"type": "string"},
        "timestamp": {"type": "string"},
        "data": {
            "type": "object",
            "required": ["from", "text"],
            "properties": {"from": {"type": "string"}, "text": {"type": "string", "maxLength": 2000}},
        },
    },
}


_TAKEN: dict[str, object] = {"204": {"description": "Taken."}}


def _operation(
    summary: str, media_type: str, schema: object, *parameters: object, answers: Mapping[str, object] = _TAKEN
) -> dict[str, object]:
    return {
        "summary": summary,
        "description": "For the provider that is set up. Anybody else's request bears no signature that is right.",
        "parameters": list(parameters),
        "requestBody": {"required": True, "content": {media_type: {"schema": schema}}},
        "responses": dict(answers),
    }
