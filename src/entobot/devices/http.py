"""REST routes about devices and their credentials."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from entobot.core.clock import rfc3339, rfc3339_or_none
from entobot.core.errors import Code
from entobot.core.permissions import Scope
from entobot.core.topic_limits import NOTHING, TopicLimits
from entobot.devices.directory import MAX_PAGE
from entobot.devices.http_topics import TopicsBody, topics_body
from entobot.devices.key_desk import MAX_LIFE_S, CreatedKey
from entobot.devices.machines import DEFAULT_OVERLAP_S, MAX_OVERLAP_S
from entobot.devices.model import MAX_TAGS, ApiKey, Credentials, Device, DeviceCertificate, Platform, Status
from entobot.devices.search import MAX_TEXT_CHARACTERS, Search, Sort
from entobot.devices.service import Devices
from entobot.web.authentication import Caller, presented
from entobot.web.routes import Api

JWKS_MAX_AGE_S = 3600
"""Well below the day for which a key is published before it signs."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DeviceRow(_Body):
    device_id: str
    user_id: str
    user_name: str
    device_name: str
    platform: Platform
    app_version: str
    os_version: str
    status: Status
    scopes: list[str]
    key_thumbprint: str | None = Field(
        description="RFC 7638 thumbprint of the device's key; null for a device that holds an API key."
    )
    credential: Literal["device_key", "api_key"] = Field(description="`api_key` is the weaker one: a bearer secret.")
    device_type: str = Field(description="A word that the operator chose, or empty.")
    tags: list[str]
    created_at: str
    last_seen_at: str | None = Field(description="To the minute.")
    is_online: bool


class DevicePage(_Body):
    rows: list[DeviceRow]
    next: str | None = Field(description="Pass as `cursor` for the following page, in the same order.")
    total: int | None = Field(description="Of all pages; said with the first, and not of those who are connected.")


class DeviceQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    q: str = Field(default="", max_length=MAX_TEXT_CHARACTERS, description="A part of the name, or a whole id.")
    status: Status | None = None
    platform: Platform | None = None
    user_id: str = Field(default="", max_length=64)
    credential: Literal["device_key", "api_key"] | None = None
    online: Literal["yes"] | None = Field(default=None, description="Only those that are connected now.")
    never_seen: bool = False
    sort: Sort = Sort.NEWEST
    cursor: str | None = Field(default=None, max_length=512)
    limit: int = Field(default=MAX_PAGE, ge=1, le=MAX_PAGE)


class ConnectionRow(_Body):
    transport: str = Field(description="`websocket` or `sse`; empty for another node's.")
    address: str
    since: str | None
    node: str | None = Field(description="Where it is, when not at the node that answers.")


class ConnectionList(_Body):
    rows: list[ConnectionRow]


class Rename(_Body):
    device_name: str = Field(max_length=256, description="1 to 64 characters, none of them invisible.")


class Labels(_Body):
    device_type: str | None = Field(default=None, max_length=64, description="A word; empty: none; null: as it is.")
    tags: list[str] | None = Field(default=None, max_length=MAX_TAGS, description="All of them; null: as they are.")


class NewApiKey(_Body):
    device_name: str = Field(max_length=256, description="1 to 64 characters, none of them invisible.")
    platform: Literal["desktop", "iot"] = "iot"
    scopes: list[Scope] | None = Field(default=None, max_length=32, description="`chat` by default.")
    expires_in_s: int | None = Field(
        default=None, strict=True, ge=1, le=MAX_LIFE_S, description="Seconds; without it the key has no end."
    )
    device_type: str = Field(default="", max_length=64, description="A word for policies and lists.")
    tags: list[str] = Field(default_factory=list, max_length=MAX_TAGS)
    topics: TopicsBody = Field(default_factory=TopicsBody, description="To limit the key.")


class CreatedApiKey(_Body):
    device_id: str
    api_key: str = Field(description="Shown once.")
    scopes: list[str]
    expires_at: str | None
    topics: TopicsBody = Field(description="What the key is limited to.")


class RotateApiKey(_Body):
    overlap_s: int = Field(
        default=DEFAULT_OVERLAP_S,
        strict=True,
        ge=0,
        le=MAX_OVERLAP_S,
        description="So long the earlier keys still hold.",
    )
    expires_in_s: int | None = Field(
        default=None,
        strict=True,
        ge=1,
        le=MAX_LIFE_S,
        description="As long as the newest key was made for, by default.",
    )


class CredentialRow(_Body):
    credential_id: str
    kind: Literal["api_key", "certificate"]
    state: Literal["good", "expired", "revoked"]
    created_at: str
    expires_at: str | None
    last_used_at: str | None = Field(description="To the minute.")
    revoked_at: str | None
    topics: TopicsBody = Field(description="What it is limited to; a certificate as the key is with which it was got.")


class CredentialList(_Body):
    rows: list[CredentialRow]


class OutsideTopic(_Body):
    action: Literal["publish", "subscribe"]
    topic: str = Field(description="Of a subscription its filter.")


class OutsideTopics(_Body):
    rows: list[OutsideTopic] = Field(description="What the device does at present, and would be refused.")
    looked_at: int = Field(description="So many topics and filters of it are known.")


class TicketBody(_Body):
    ticket: str = Field(description="For one `auth` frame, from the Origin of this request.")
    expires_in: int = Field(description="Seconds.")


class Refresh(_Body):
    refresh_token: str = Field(max_length=256)


class CredentialsBody(_Body):
    device_id: str
    user_id: str
    scopes: list[str]
    access_token: str
    token_type: str = Field(description="`DPoP`")
    expires_in: int = Field(description="Seconds.")
    refresh_token: str
    refresh_expires_in: int = Field(description="Seconds.")


def credentials_body(credentials: Credentials) -> CredentialsBody:
    """The answer of collect and refresh."""
    return CredentialsBody(
        device_id=credentials.device_id,
        user_id=credentials.user_id,
        scopes=sorted(credentials.scopes),
        access_token=credentials.access_token,
        token_type=credentials.token_type,
        expires_in=credentials.expires_in,
        refresh_token=credentials.refresh_token,
        refresh_expires_in=credentials.refresh_expires_in,
    )


def add_routes(api: Api, devices: Devices) -> None:
    routes, one = _Routes(devices), "/api/v1/devices/{device_id}"
    refresh_problems = (*_PROOF, Code.REFRESH_INVALID, Code.REFRESH_SUPERSEDED, Code.DEVICE_SUSPENDED)
    api.add("GET", "/.well-known/jwks.json", routes.jwks)
    api.add("POST", "/api/v1/api-keys", routes.create_api_key, status_code=201, redact=_without_key)
    api.add("POST", "/api/v1/auth/refresh", routes.refresh, problems=refresh_problems)
    api.add("POST", "/api/v1/auth/ws-ticket", routes.create_ticket, idempotent=False)
    api.add("GET", "/api/v1/auth/devices", routes.list_devices, operation_id="list_devices_alias")
    api.add("GET", "/api/v1/devices", routes.list_devices)
    api.add("GET", one, routes.get_device, problems=_ONE)
    api.add("GET", one + "/connections", routes.list_connections, problems=_ONE)
    api.add("PATCH", one, routes.rename_device, problems=(*_ONE, Code.FORBIDDEN))
    api.add("PUT", one + "/labels", routes.label_device, problems=(*_ONE, Code.FORBIDDEN))
    api.add("DELETE", one, routes.revoke_device, problems=(*_ONE, Code.FORBIDDEN))
    api.add("POST", one + "/api-keys", routes.rotate_api_key, status_code=201, redact=_without_key, problems=_KEYS)
    api.add("GET", one + "/credentials", routes.list_credentials, problems=_ONE)
    api.add("DELETE", one + "/credentials/{credential_id}", routes.revoke_credential, problems=_ONE)
    api.add("PUT", one + "/credentials/{credential_id}/topics", routes.limit_credential, problems=_ONE)
    api.add("POST", one + "/credentials/{credential_id}/topics/check", routes.check_limits, problems=_ONE)
    api.add("POST", one + "/suspend", routes.suspend_device, problems=_ONE)
    api.add("POST", one + "/reactivate", routes.reactivate_device, problems=_ONE)


def _without_key(created: dict[str, Any]) -> dict[str, Any]:
    """What may be stored of the answer, for a repeat with the same Idempotency-Key."""
    return {name: value for name, value in created.items() if name != "api_key"} | {"secret_shown": True}


_PROOF = (Code.PROOF_INVALID, Code.PROOF_REQUIRED, Code.PROOF_STALE)
_ONE = (Code.NOT_FOUND,)
_KEYS = (*_ONE, Code.QUOTA_EXCEEDED)


class _Routes:
    def __init__(self, devices: Devices) -> None:
        self._devices = devices
        self._directory = devices.directory

    async def jwks(self, response: Response) -> dict[str, list[dict[str, str]]]:
        response.headers["Cache-Control"] = f"public, max-age={JWKS_MAX_AGE_S}"
        return self._devices.jwks()

    async def refresh(self, body: Refresh, request: Request) -> CredentialsBody:
        return credentials_body(await self._devices.refresh(body.refresh_token, presented(request)))

    async def create_api_key(self, body: NewApiKey, principal: Caller, response: Response) -> CreatedApiKey:
        response.headers["Cache-Control"] = "no-store"
        made = await self._devices.create_api_key(
            principal,
            body.device_name,
            platform=Platform(body.platform),
            scopes=None if body.scopes is None else frozenset(body.scopes),
            expires_in_s=body.expires_in_s,
            device_type=body.device_type,
            tags=body.tags,
            topics=body.topics.limits(),
        )
        return _created(made)

    async def rotate_api_key(
        self, device_id: str, body: RotateApiKey, principal: Caller, response: Response
    ) -> CreatedApiKey:
        """Another key for the same device; those that it has end after the overlap."""
        response.headers["Cache-Control"] = "no-store"
        made = await self._devices.machines.rotate(
            principal, device_id, overlap_s=body.overlap_s, expires_in_s=body.expires_in_s
        )
        return _created(made)

    async def list_credentials(self, device_id: str, principal: Caller) -> CredentialList:
        """The device's API keys, then its certificates, the newest first; those that are over for 30 days."""
        held = await self._devices.machines.held(principal, device_id)
        limits = {key.key_id: key.topics for key in held.keys}
        rows = [_credential(key, key.key_id, key.topics, is_good=key.is_good(held.now_ms)) for key in held.keys]
        rows += [
            _credential(one, one.certificate_id, limits.get(one.key_id, NOTHING), is_good=is_good)
            for one, is_good in held.certificates
        ]
        return CredentialList(rows=rows)

    async def revoke_credential(self, device_id: str, credential_id: str, principal: Caller) -> CredentialList:
        """One key; the device, and what else it holds, stays."""
        await self._devices.machines.revoke(principal, device_id, credential_id)
        return await self.list_credentials(device_id, principal)

    async def limit_credential(
        self, device_id: str, credential_id: str, body: TopicsBody, principal: Caller
    ) -> CredentialList:
        """Of one API key; felt by whoever is connected with it within a second."""
        await self._devices.machines.limit(principal, device_id, credential_id, body.limits())
        return await self.list_credentials(device_id, principal)

    async def check_limits(
        self, device_id: str, credential_id: str, body: TopicsBody, principal: Caller
    ) -> OutsideTopics:
        """What would be refused if the key were limited so; nothing is changed."""
        found = await self._devices.machines.check_limits(principal, device_id, credential_id, body.limits())
        rows = [OutsideTopic.model_validate({"action": action, "topic": topic}) for action, topic in found.topics]
        return OutsideTopics(rows=rows, looked_at=found.looked_at)

    async def create_ticket(self, principal: Caller, request: Request, response: Response) -> TicketBody:
        response.headers["Cache-Control"] = "no-store"
        issued = await self._devices.issue_ticket(principal, request.headers.get("origin"))
        return TicketBody(ticket=issued.text, expires_in=issued.expires_in)

    async def list_devices(self, principal: Caller, query: Annotated[DeviceQuery, Query()]) -> DevicePage:
        wanted = Search(
            text=query.q,
            status=query.status,
            platform=query.platform,
            user_id=query.user_id,
            credential=query.credential,
            never_seen=query.never_seen,
            sort=query.sort,
        )
        look = self._directory.find_online_page if query.online else self._directory.find_page
        page = await look(principal, wanted, query.cursor, query.limit)
        return DevicePage(rows=await self._rows(page.rows), next=page.next, total=page.total)

    async def get_device(self, device_id: str, principal: Caller) -> DeviceRow:
        return await self._row(await self._directory.find(principal, device_id))

    async def list_connections(self, device_id: str, principal: Caller) -> ConnectionList:
        device = await self._directory.find(principal, device_id)
        found = await self._directory.find_connections(device.device_id)
        return ConnectionList(
            rows=[
                ConnectionRow(
                    transport=one.transport, address=one.address, since=rfc3339_or_none(one.since_ms), node=one.place
                )
                for one in found
            ]
        )

    async def rename_device(self, device_id: str, body: Rename, principal: Caller) -> DeviceRow:
        return await self._row(await self._devices.rename(principal, device_id, body.device_name))

    async def label_device(self, device_id: str, body: Labels, principal: Caller) -> DeviceRow:
        """What policies and lists know it by. Never by the device itself."""
        return await self._row(await self._devices.label(principal, device_id, body.device_type, body.tags))

    async def revoke_device(self, device_id: str, principal: Caller) -> DeviceRow:
        return await self._row(await self._devices.revoke(principal, device_id))

    async def suspend_device(self, device_id: str, principal: Caller) -> DeviceRow:
        return await self._row(await self._devices.suspend(principal, device_id))

    async def reactivate_device(self, device_id: str, principal: Caller) -> DeviceRow:
        return await self._row(await self._devices.reactivate(principal, device_id))

    async def _row(self, device: Device) -> DeviceRow:
        return (await self._rows([device]))[0]

    async def _rows(self, devices: Sequence[Device]) -> list[DeviceRow]:
        online = await self._directory.find_online([device.device_id for device in devices])
        names = await self._directory.names(devices)
        return [_row(device, names[device.user_id], is_online=device.device_id in online) for device in devices]


def _created(made: CreatedKey) -> CreatedApiKey:
    return CreatedApiKey(
        device_id=made.device.device_id,
        api_key=made.secret,
        scopes=sorted(made.device.scopes),
        expires_at=rfc3339_or_none(made.expires_at_ms),
        topics=topics_body(made.topics),
    )


def _credential(
    key: ApiKey | DeviceCertificate, credential_id: str, topics: TopicLimits, *, is_good: bool
) -> CredentialRow:
    return CredentialRow(
        credential_id=credential_id,
        kind="api_key" if isinstance(key, ApiKey) else "certificate",
        state="revoked" if key.revoked_at_ms is not None else "good" if is_good else "expired",
        created_at=rfc3339(key.created_at_ms),
        expires_at=rfc3339_or_none(key.expires_at_ms),
        last_used_at=rfc3339_or_none(key.last_used_at_ms),
        revoked_at=rfc3339_or_none(key.revoked_at_ms),
        topics=topics_body(topics),
    )


def _row(device: Device, user_name: str, *, is_online: bool) -> DeviceRow:
    return DeviceRow(
        device_id=device.device_id,
        user_id=device.user_id,
        user_name=user_name,
        device_name=device.name,
        platform=device.platform,
        app_version=device.app_version,
        os_version=device.os_version,
        status=device.status,
        scopes=sorted(device.scopes),
        key_thumbprint=device.thumbprint,
        credential="api_key" if device.jwk is None else "device_key",
        device_type=device.device_type,
        tags=list(device.tags),
        created_at=rfc3339(device.created_at_ms),
        last_seen_at=rfc3339_or_none(device.last_seen_at_ms),
        is_online=is_online,
    )
