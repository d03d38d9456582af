"""REST routes of pairing: translate only."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from entobot.core.clock import rfc3339, rfc3339_or_none
from entobot.core.errors import Code, Problem
from entobot.core.permissions import Scope
from entobot.devices.keys import KeyRefused, PublicKey, parse_public_jwk
from entobot.devices.model import Credentials, Platform
from entobot.notifications.sms_model import MessageState
from entobot.pairing.model import Claim, Confirm, DeviceInfo, Invite, Kind, State
from entobot.pairing.requests import ClaimRequest, CreatedInvite, InviteRequest, Pending
from entobot.pairing.service import MAX_WAIT_S, Pairing
from entobot.pairing.texting import Delivery, SmsWay
from entobot.web.authentication import Caller, presented
from entobot.web.problems import from_validation
from entobot.web.routes import Api

MAX_BODY_BYTES = 8192
MICROS = 1_000_000
SECRET_MEMBERS = frozenset({"secret", "url", "code", "qr_svg"})

InviteId = Annotated[str, Path(max_length=64)]
ClaimId = Annotated[str, Path(max_length=64)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NewInvite(_Body):
    kind: Kind
    user_id: str | None = Field(default=None, max_length=64, description="Whose device it will be; you by default.")
    label: str = Field(default="", max_length=256, description="For the list of invites; at most 64 characters.")
    scopes: list[Scope] | None = Field(default=None, max_length=32, description="`chat approve notify` by default.")
    confirm: Confirm | None = Field(default=None, description="By default `type`; for kind `sms` it is `approve`.")
    ttl_s: int | None = Field(
        default=None,
        strict=True,
        ge=1,
        le=86_400,
        description="Seconds, 30 to 900. By default 300; for kind `sms` 900.",
    )
    allow_bearer: StrictBool = Field(
        default=False,
        description="Also a device without a key may claim it, for a weaker API key: 30 days, scope `chat`.",
    )
    phone_number: str | None = Field(
        default=None, max_length=32, description="For kind `sms`: E.164, as in `+14155550123`."
    )


class ClaimRow(_Body):
    claim_id: str
    device_name: str
    platform: Platform
    app_version: str
    os_version: str
    address: str
    key_thumbprint: str | None = Field(description="RFC 7638 thumbprint of the claiming key; null for a bearer claim.")
    credential: Literal["device_key", "api_key"] = Field(description="What it gets. `api_key` is the weaker one.")
    claimed_at: str
    confirmation_code: str | None = Field(
        description="Kind `sms`, confirmed by `approve`: what the phone shows. Ask the person for it, before you say yes."
    )


class SmsBody(_Body):
    phone_number: str = Field(description="Masked.")
    provider: str
    state: MessageState = Field(description="`accepted` is the provider's answer, `sent` and `delivered` its receipts.")
    reason: str = Field(description="Why it is in this state, where there is something to say.")
    is_real: bool = Field(description="False where nothing is sent: `sms.provider` is `console`.")
    sends: int = Field(description="How often it was sent, the first time included.")
    changed_at: str
    resend_from: str | None = Field(description="When it may be sent again; null: not any more.")


class InviteRow(_Body):
    invite_id: str
    kind: Kind
    state: State
    user_id: str
    label: str
    scopes: list[str]
    confirm: Confirm
    created_at: str
    expires_at: str = Field(description="When the present state ends by itself.")
    is_contested: bool = Field(description="A second device tried this invite: the picture may have been copied.")
    claim: ClaimRow | None
    device_id: str | None = Field(description="Reserved by the confirmation.")
    allow_bearer: bool = Field(description="Whether a device without a key may claim it, for a weaker API key.")
    sms: SmsBody | None = Field(description="Kind `sms`: what is known of the last message.")


class CreatedInviteBody(InviteRow):
    secret: str | None = Field(description="Shown once; kind `qr`. Kind `sms` where nothing is sent.")
    url: str | None = Field(description="The pairing link; kind `qr`. Kind `sms` where nothing is sent.")
    code: str | None = Field(description="Shown once; kind `code`. Kind `sms` where nothing is sent.")
    qr_svg: str | None = Field(description="The link as an SVG element; kind `qr`.")


class InviteList(_Body):
    rows: list[InviteRow]


class SmsWayBody(_Body):
    provider: str = Field(description="Empty: no SMS is sent.")
    is_real: bool = Field(description="False where nothing is sent: `provider` is `console`, or there is none.")
    countries: list[str] = Field(description="That may be written to; empty: all.")
    messages_of_day: int = Field(description="Of the last 24 hours, in all.")
    max_messages_of_day: int
    cost_of_day: float
    max_cost_of_day: float
    currency: str


class Confirmation(_Body):
    claim_id: str = Field(max_length=64, description="The claim that was looked at.")
    code: str | None = Field(default=None, pattern=r"^[0-9]{6}$", description="The digits that the phone shows.")
    approve: StrictBool | None = Field(default=None, description="Without digits; `false` says no in every mode.")


class Confirmed(_Body):
    device_id: str | None = Field(description="Null after a no.")


class DeviceInfoBody(_Body):
    device_name: str = Field(max_length=256, description="1 to 64 characters, none of them invisible.")
    platform: Platform
    app_version: str = Field(max_length=256)
    os_version: str = Field(default="", max_length=256)


class JwkBody(_Body):
    kty: Literal["EC"]
    crv: Literal["P-256"]
    x: str = Field(max_length=64)
    y: str = Field(max_length=64)


class ClaimBody(_Body):
    invite_id: str | None = Field(default=None, max_length=64, description="With `secret`; absent with `code`.")
    secret: str | None = Field(default=None, max_length=128)
    code: str | None = Field(default=None, max_length=32)
    public_key: JwkBody
    device_info: DeviceInfoBody
    proof: str = Field(max_length=4096, description="Compact JWS by that key, typ `entobot-pair+jwt`.")


class ClaimedBody(_Body):
    claim_id: str
    status: Literal["awaiting_confirmation", "confirmed"]
    confirmation_code: str = Field(description="Show it; the operator types it.")
    gateway_name: str
    expires_at: str = Field(description="Until then the operator must confirm, or the device must collect.")


class PendingBody(_Body):
    status: Literal["awaiting_confirmation"] = "awaiting_confirmation"


class CollectedBody(_Body):
    device_id: str
    user_id: str
    scopes: list[str]
    access_token: str
    token_type: str = Field(description="`DPoP`")
    expires_in: int = Field(description="Seconds.")
    refresh_token: str
    refresh_expires_in: int = Field(description="Seconds.")


_UNSENT = (Code.CLAIM_CHANGED, Code.NUMBER_REFUSED, Code.SMS_UNAVAILABLE)


def add_routes(api: Api, pairing: Pairing) -> None:
    routes = _Routes(pairing)
    one = "/api/v1/pairing/invites/{invite_id}"
    gone = (Code.INVITE_BURNED, Code.INVITE_EXPIRED, Code.INVITE_NOT_FOUND, Code.INVITE_USED, Code.PAIRING_DENIED)
    api.add(
        "POST",
        "/api/v1/pairing/invites",
        routes.create_invite,
        status_code=201,
        redact=without_secrets,
        problems=(Code.NOT_FOUND, Code.NUMBER_REFUSED, Code.RATE_LIMITED, Code.SMS_UNAVAILABLE),
    )
    api.add("GET", "/api/v1/pairing/invites", routes.list_invites)
    api.add("GET", "/api/v1/pairing/sms", routes.get_sms_way)
    api.add("GET", one, routes.get_invite, problems=(Code.INVITE_NOT_FOUND,))
    api.add("DELETE", one, routes.cancel_invite, status_code=204, problems=(Code.INVITE_NOT_FOUND, Code.INVITE_USED))
    api.add("POST", f"{one}/confirm", routes.confirm_invite, problems=(*gone, Code.CLAIM_CHANGED, Code.KEY_KNOWN))
    api.add("POST", f"{one}/resend", routes.resend_invite, redact=without_secrets, problems=(*gone, *_UNSENT))
    api.add_raw(
        "POST",
        "/api/v1/auth/pair",
        routes.claim_invite,
        max_body_bytes=MAX_BODY_BYTES,
        problems=(*gone, Code.KEY_KNOWN, Code.PROOF_INVALID, Code.PROOF_STALE, Code.RATE_LIMITED),
        operation=_claim_operation,
    )
    api.add(
        "POST",
        "/api/v1/auth/pair/{claim_id}/collect",
        routes.collect,
        max_body_bytes=MAX_BODY_BYTES,
        problems=(*gone, Code.KEY_KNOWN, Code.DEVICE_SUSPENDED),
        response_model=CollectedBody,
        responses={202: {"model": PendingBody}},
    )


class _Routes:
    def __init__(self, pairing: Pairing) -> None:
        self._pairing = pairing

    async def create_invite(self, caller: Caller, body: NewInvite) -> CreatedInviteBody:
        request = InviteRequest(
            kind=body.kind,
            user_id=body.user_id,
            label=body.label,
            scopes=None if body.scopes is None else frozenset(body.scopes),
            confirm=body.confirm,
            ttl=None if body.ttl_s is None else timedelta(seconds=body.ttl_s),
            allow_bearer=body.allow_bearer,
            phone_number=body.phone_number,
        )
        return await self._created(await self._pairing.create_invite(caller, request))

    async def list_invites(self, caller: Caller) -> InviteList:
        return InviteList(rows=await self._rows(await self._pairing.list_invites(caller)))

    async def get_sms_way(self, caller: Caller) -> SmsWayBody:
        """What there is to know before somebody is invited by SMS."""
        return _sms_way_body(await self._pairing.by_sms.way(caller))

    async def get_invite(self, caller: Caller, invite_id: InviteId) -> InviteRow:
        return (await self._rows([await self._pairing.get_invite(caller, invite_id)]))[0]

    async def cancel_invite(self, caller: Caller, invite_id: InviteId) -> Response:
        await self._pairing.cancel_invite(caller, invite_id)
        return Response(status_code=204)

    async def confirm_invite(self, caller: Caller, invite_id: InviteId, body: Confirmation) -> Confirmed:
        device_id = await self._pairing.confirm_invite(
            caller, invite_id, body.claim_id, code=body.code, approve=body.approve
        )
        return Confirmed(device_id=device_id)

    async def resend_invite(self, caller: Caller, invite_id: InviteId) -> CreatedInviteBody:
        return await self._created(await self._pairing.by_sms.resend(caller, invite_id))

    async def _created(self, created: CreatedInvite) -> CreatedInviteBody:
        row = (await self._rows([created.invite]))[0]
        return CreatedInviteBody(
            **row.model_dump(),
            secret=created.secret,
            url=created.url,
            code=created.code,
            qr_svg=created.qr_svg,
        )

    async def _rows(self, invites: list[Invite]) -> list[InviteRow]:
        known = await self._pairing.by_sms.deliveries(invites)
        return [
            invite_row(invite, known.get(invite.invite_id), self._pairing.confirmation_code(invite))
            for invite in invites
        ]

    async def claim_invite(self, request: Request) -> Response:
        address = request.client.host if request.client else ""
        await self._pairing.refuse_if_blocked(address)  # before the first byte of the body is read
        body = _parse_claim(await request.json())
        claimed = await self._pairing.claim_invite(_claim_request(body), address)
        answer = ClaimedBody(
            claim_id=claimed.claim_id,
            status="confirmed" if claimed.is_confirmed else "awaiting_confirmation",
            confirmation_code=claimed.confirmation_code,
            gateway_name=claimed.gateway_name,
            expires_at=rfc3339(claimed.expires_at_ms),
        )
        return JSONResponse(answer.model_dump(mode="json"))

    async def collect(
        self,
        request: Request,
        claim_id: ClaimId,
        wait: Annotated[int, Query(ge=0, le=MAX_WAIT_S, description="Seconds to wait for the operator.")] = 0,
    ) -> Response:
        answer = await self._pairing.collect(claim_id, presented(request), wait)
        if isinstance(answer, Pending):
            return JSONResponse(PendingBody().model_dump(mode="json"), 202)
        return JSONResponse(_collected_body(answer).model_dump(mode="json"))


def without_secrets(created: dict[str, Any]) -> dict[str, Any]:
    """What may be stored of the answer to a creation, for a repeat with the same Idempotency-Key."""
    kept = {name: value for name, value in created.items() if name not in SECRET_MEMBERS}
    return kept | {"secret_shown": True}


def invite_row(invite: Invite, delivery: Delivery | None = None, digits: str | None = None) -> InviteRow:
    return InviteRow(
        invite_id=invite.invite_id,
        kind=invite.kind,
        state=invite.state,
        user_id=invite.user_id,
        label=invite.label,
        scopes=sorted(invite.scopes),
        confirm=invite.confirm,
        created_at=rfc3339(invite.created_at_ms),
        expires_at=rfc3339(invite.deadline_ms),
        is_contested=invite.is_contested,
        claim=None if invite.claim is None else _claim_row(invite.claim, digits),
        device_id=invite.device_id,
        allow_bearer=invite.allow_bearer,
        sms=None if delivery is None else _sms_body(delivery),
    )


def _sms_way_body(way: SmsWay | None) -> SmsWayBody:
    limits = None if way is None else way.limits
    return SmsWayBody(
        provider="" if way is None else way.provider,
        is_real=way is not None and way.is_real,
        countries=[] if way is None else list(way.countries),
        messages_of_day=0 if way is None else way.spent.messages,
        max_messages_of_day=0 if limits is None else limits.per_day,
        cost_of_day=0 if way is None else way.spent.cost_micros / MICROS,
        max_cost_of_day=0 if limits is None else limits.max_cost_micros_per_day / MICROS,
        currency="" if limits is None else limits.currency,
    )


def _sms_body(delivery: Delivery) -> SmsBody:
    message = delivery.message
    return SmsBody(
        phone_number=message.number_hint,
        provider=message.provider,
        state=message.state,
        reason=message.reason,
        is_real=delivery.is_real,
        sends=delivery.sends,
        changed_at=rfc3339(message.changed_at_ms),
        resend_from=rfc3339_or_none(delivery.resend_from_ms),
    )


def _collected_body(credentials: Credentials) -> CollectedBody:
    return CollectedBody(
        device_id=credentials.device_id,
        user_id=credentials.user_id,
        scopes=sorted(credentials.scopes),
        access_token=credentials.access_token,
        token_type=credentials.token_type,
        expires_in=credentials.expires_in,
        refresh_token=credentials.refresh_token,
        refresh_expires_in=credentials.refresh_expires_in,
    )


def _claim_row(claim: Claim, digits: str | None) -> ClaimRow:
    return ClaimRow(
        claim_id=claim.claim_id,
        device_name=claim.device.device_name,
        platform=claim.device.platform,
        app_version=claim.device.app_version,
        os_version=claim.device.os_version,
        address=claim.address,
        key_thumbprint=claim.thumbprint,
        credential="api_key" if claim.is_bearer else "device_key",
        claimed_at=rfc3339(claim.claimed_at_ms),
        confirmation_code=digits,
    )


def _parse_claim(value: object) -> ClaimBody:
    try:
        return ClaimBody.model_validate(value)
    except ValidationError as error:
        raise from_validation(error.errors(include_url=False, include_input=False)) from None


def _claim_request(body: ClaimBody) -> ClaimRequest:
    info = body.device_info
    return ClaimRequest(
        public_key=_public_key(body.public_key),
        device=DeviceInfo(info.device_name, info.platform, info.app_version, info.os_version),
        proof=body.proof,
        invite_id=body.invite_id,
        secret=body.secret,
        code=body.code,
    )


def _public_key(body: JwkBody) -> PublicKey:
    try:
        return parse_public_jwk(body.model_dump())
    except KeyRefused as error:
        raise Problem(Code.INVALID, str(error)) from None


def _claim_operation() -> dict[str, Any]:
    return {
        "summary": "Claim Invite",
        "requestBody": {"required": True, "content": {"application/json": {"schema": _schema(ClaimBody)}}},
        "responses": {
            "200": {
                "description": "The invite is this device's.",
                "content": {"application/json": {"schema": _schema(ClaimedBody)}},
            }
        },
    }


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """The model's JSON Schema without `$defs`, which an OpenAPI operation has no place for."""
    schema = model.model_json_schema()
    definitions: dict[str, Any] = schema.pop("$defs", {})

    def inline(node: Any) -> Any:
        if isinstance(node, list):
            return [inline(item) for item in node]  # pyright: ignore[reportUnknownVariableType]  JSON has no static type
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return inline(definitions[node["$ref"].rpartition("/")[2]])  # pyright: ignore[reportUnknownMemberType]  JSON has no static type
        return {name: inline(value) for name, value in node.items()}  # pyright: ignore[reportUnknownVariableType]  JSON has no static type

    return inline(schema)
