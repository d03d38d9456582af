"""REST of enrolment: keys for operators, and the one call of a board. Translate only."""

from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from entobot.core.clock import Clock, rfc3339, rfc3339_or_none
from entobot.core.errors import Code, Problem
from entobot.core.permissions import Scope
from entobot.devices.http_topics import TopicsBody, topics_body
from entobot.devices.key_desk import MAX_LIFE_S as MAX_KEY_LIFE_S
from entobot.devices.model import MAX_TAGS
from entobot.enrolment.model import DEFAULT_LIFE_S, MAX_LIFE_S, MAX_USES, EnrolmentKey
from entobot.enrolment.service import Asking, EnrolledDevice, Enrolments, Wanted
from entobot.web.authentication import Caller
from entobot.web.routes import Api

MAX_BOARD_BODY_BYTES = 2 * 1024
StateName = Literal["open", "spent", "expired", "revoked"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EnrolmentKeyRow(_Body):
    key_id: str
    name: str
    state: StateName
    user_id: str = Field(description="Whose the devices are.")
    made_by: str = Field(description="The device or person that made it. It ends with them.")
    uses: int
    max_uses: int
    device_type: str
    tags: list[str]
    scopes: list[str] = Field(description="None: its devices reach their own topics, and nothing of the API.")
    key_life_s: int | None = Field(description="How long the API keys live that it makes; null has no end.")
    topics: TopicsBody = Field(description="What the API keys that it makes are limited to.")
    created_at: str
    expires_at: str
    last_used_at: str | None
    revoked_at: str | None


class EnrolmentKeyList(_Body):
    rows: list[EnrolmentKeyRow]


class EnrolledRow(_Body):
    device_id: str
    device_name: str
    status: str
    hardware_id: str = Field(description="As the board says; nothing rests on it.")
    enrolled_at: str


class EnrolmentKeyPage(EnrolmentKeyRow):
    devices: list[EnrolledRow] = Field(description="The newest 200 that it made.")


class NewEnrolmentKey(_Body):
    name: str = Field(max_length=256, description="1 to 64 characters, for the list.")
    max_uses: int = Field(default=1, strict=True, ge=1, le=MAX_USES, description="How many devices it makes at most.")
    expires_in_s: int = Field(default=DEFAULT_LIFE_S, strict=True, ge=60, le=MAX_LIFE_S, description="Seconds.")
    device_type: str = Field(default="", max_length=64)
    tags: list[str] = Field(default_factory=list, max_length=MAX_TAGS)
    scopes: list[Scope] = Field(default_factory=list[Scope], max_length=32, description="None by default.")
    key_life_s: int | None = Field(default=None, strict=True, ge=3600, le=MAX_KEY_LIFE_S)
    topics: TopicsBody = Field(default_factory=TopicsBody, description="To limit the API keys that it makes.")


class CreatedEnrolmentKey(EnrolmentKeyRow):
    enrolment_key: str = Field(description="Shown once.")


class RevokeQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    devices: bool = Field(default=False, description="And every device that it made.")


class Enrol(_Body):
    nonce: str = Field(
        pattern="^[A-Za-z0-9_-]{43}$",
        description="32 random bytes, base64url, which the board chose and keeps secret. The same one again: another "
        "key for the same device, while it has not used the one that it was given, for an hour.",
    )
    device_name: str = Field(default="", max_length=256)
    hardware_id: str = Field(default="", max_length=64, description="Shown to operators; nothing rests on it.")
    app_version: str = Field(default="", max_length=64)
    os_version: str = Field(default="", max_length=64)


class EnrolledBody(_Body):
    device_id: str = Field(description="The user name of MQTT, and the start of the client id.")
    device_name: str
    api_key: str = Field(description="Shown once.")
    expires_at: str | None
    scopes: list[str]
    topics: str = Field(description="What the device's topics begin with.")
    mqtt_port: int | None = Field(description="For MQTT over TLS; null where there is none.")


def add_routes(api: Api, enrolments: Enrolments, clock: Clock, mqtt_port: int | None) -> None:
    routes, at = _Routes(enrolments, clock, mqtt_port), "/api/v1/enrolment-keys"
    api.add("GET", at, routes.list_enrolment_keys)
    api.add(
        "POST",
        at,
        routes.create_enrolment_key,
        status_code=201,
        redact=_without_key,
        problems=(Code.QUOTA_EXCEEDED,),
    )
    api.add("GET", at + "/{key_id}", routes.get_enrolment_key, problems=(Code.NOT_FOUND,))
    api.add("DELETE", at + "/{key_id}", routes.revoke_enrolment_key, problems=(Code.NOT_FOUND,))
    api.add(
        "POST",
        "/api/v1/enrol",
        routes.enrol,
        status_code=201,
        max_body_bytes=MAX_BOARD_BODY_BYTES,
        problems=(Code.UNAUTHENTICATED, Code.ENROLMENT_USED),
    )


def _without_key(created: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in created.items() if name != "enrolment_key"} | {"secret_shown": True}


class _Routes:
    def __init__(self, enrolments: Enrolments, clock: Clock, mqtt_port: int | None) -> None:
        self._enrolments = enrolments
        self._clock = clock
        self._mqtt_port = mqtt_port

    async def list_enrolment_keys(self, principal: Caller) -> EnrolmentKeyList:
        """The newest 200, whoever made them."""
        now_ms = self._clock.now_ms()
        found = await self._enrolments.list_keys(principal)
        return EnrolmentKeyList(rows=[EnrolmentKeyRow(**_row(key, now_ms)) for key in found])

    async def get_enrolment_key(self, key_id: str, principal: Caller) -> EnrolmentKeyPage:
        key, made = await self._enrolments.find(principal, key_id)
        return EnrolmentKeyPage(**_row(key, self._clock.now_ms()), devices=[_enrolled(one) for one in made])

    async def create_enrolment_key(
        self, body: NewEnrolmentKey, principal: Caller, response: Response
    ) -> CreatedEnrolmentKey:
        """A key with which boards enrol themselves, each as a device of its own of the caller."""
        response.headers["Cache-Control"] = "no-store"
        wanted = Wanted(
            name=body.name,
            max_uses=body.max_uses,
            expires_in_s=body.expires_in_s,
            device_type=body.device_type,
            tags=tuple(body.tags),
            scopes=frozenset(body.scopes),
            key_life_s=body.key_life_s,
            topics=body.topics.limits(),
        )
        made = await self._enrolments.create(principal, wanted)
        return CreatedEnrolmentKey(**_row(made.key, self._clock.now_ms()), enrolment_key=made.secret)

    async def revoke_enrolment_key(
        self, key_id: str, principal: Caller, query: Annotated[RevokeQuery, Query()]
    ) -> EnrolmentKeyRow:
        """For a key that a stranger had, with its devices."""
        key = await self._enrolments.revoke(principal, key_id, with_devices=query.devices)
        return EnrolmentKeyRow(**_row(key, self._clock.now_ms()))

    async def enrol(self, body: Enrol, request: Request, response: Response) -> EnrolledBody:
        """The board's first call, with `Authorization: Bearer` and the enrolment key."""
        response.headers["Cache-Control"] = "no-store"
        asking = Asking(body.nonce, body.device_name, body.hardware_id, body.app_version, body.os_version)
        address = request.client.host if request.client else ""
        made = await self._enrolments.enrol(bearer(request), asking, address)
        return EnrolledBody(
            device_id=made.device.device_id,
            device_name=made.device.name,
            api_key=made.secret,
            expires_at=rfc3339_or_none(made.expires_at_ms),
            scopes=sorted(made.device.scopes),
            topics=f"devices/{made.device.device_id}/",
            mqtt_port=self._mqtt_port,
        )


def bearer(request: Request) -> str:
    """What stands behind `Bearer` in the one Authorization header. Raises `unauthenticated`."""
    given = request.headers.getlist("authorization")
    scheme, _, key = (given[0] if len(given) == 1 else "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise Problem(Code.UNAUTHENTICATED, "Send the enrolment key as 'Authorization: Bearer ent_enr_…'.")
    return key


def _row(key: EnrolmentKey, now_ms: int) -> dict[str, Any]:
    return {
        "key_id": key.key_id,
        "name": key.name,
        "state": key.state(now_ms).value,
        "user_id": key.user_id,
        "made_by": key.made_by,
        "uses": key.uses,
        "max_uses": key.max_uses,
        "device_type": key.device_type,
        "tags": list(key.tags),
        "scopes": sorted(key.scopes),
        "key_life_s": key.key_life_s,
        "topics": topics_body(key.topics),
        "created_at": rfc3339(key.created_at_ms),
        "expires_at": rfc3339(key.expires_at_ms),
        "last_used_at": rfc3339_or_none(key.last_used_at_ms),
        "revoked_at": rfc3339_or_none(key.revoked_at_ms),
    }


def _enrolled(one: EnrolledDevice) -> EnrolledRow:
    return EnrolledRow(
        device_id=one.enrolment.device_id,
        device_name="" if one.device is None else one.device.name,
        status="" if one.device is None else one.device.status,
        hardware_id=one.enrolment.hardware_id,
        enrolled_at=rfc3339(one.enrolment.enrolled_at_ms),
    )
