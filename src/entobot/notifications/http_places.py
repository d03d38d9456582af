"""REST of the places where people are reached, of their rules, and of the channels: translate only."""

from collections.abc import Awaitable, Callable
from datetime import tzinfo
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from entobot.core.clock import rfc3339, rfc3339_or_none
from entobot.core.errors import Code, Problem
from entobot.devices.directory import Directory
from entobot.notifications import rules as rules_module
from entobot.notifications.addresses import shown
from entobot.notifications.channel import Outcome
from entobot.notifications.model import MAX_ADDRESS_CHARACTERS, AttemptState, Channel, Place, Priority
from entobot.notifications.overview import Health, Overview
from entobot.notifications.places import MAX_TOKEN_CHARACTERS, NewPlace, Places
from entobot.notifications.rules import MAX_MUTED, MAX_STEPS, from_json, to_json
from entobot.notifications.trying import Trying
from entobot.storage.database import Database
from entobot.web.authentication import Caller
from entobot.web.routes import Api

ZoneOf = Callable[[str], Awaitable[tzinfo | None]]
Clock = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="As in 22:30.")]
SentBy = Literal["email", "ntfy", "push", "sms", "unifiedpush"]
Added = Literal["email", "ntfy", "sms", "unifiedpush"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PlaceRow(_Body):
    """Where the person is reached. Of endpoints only the host is told: they let anybody write there."""

    place_id: str
    channel: SentBy
    shown: str = Field(description="The address of a person, else the host of the service.")
    name: str
    device_id: str | None = Field(description="The device that subscribed.")
    confirmed: bool
    created_at: str
    last_ok_at: str | None
    last_failed_at: str | None
    reason: str = Field(description="Why it failed last; empty where it did not since it last worked.")


class PlaceList(_Body):
    rows: list[PlaceRow]
    channels: list[SentBy] = Field(description="What this gateway can send by.")
    push_key: str = Field(description="`applicationServerKey` for browsers: base64url.")
    content: bool = Field(description="Whether the operator lets title and text leave the gateway.")


class DevicePlaces(_Body):
    rows: list[PlaceRow]


class PushKeys(_Body):
    p256dh: str = Field(max_length=128)
    auth: str = Field(max_length=64)


class NewPlaceBody(_Body):
    channel: Added
    address: str = Field(
        max_length=MAX_ADDRESS_CHARACTERS, description="An e-mail address, a topic's URL, an endpoint."
    )
    name: str = Field(default="", max_length=256)
    keys: PushKeys | None = Field(default=None, description="Of a UnifiedPush registration.")
    token: str = Field(default="", max_length=MAX_TOKEN_CHARACTERS, description="Of an ntfy topic that needs one.")


class Typed(_Body):
    code: str = Field(max_length=16)


class CodeSent(_Body):
    """200 also where it was not taken: `state` says so. `queued`: an SMS that waits for its provider."""

    state: Literal["failed", "queued", "sent"]
    reason: str


class Tested(_Body):
    state: AttemptState
    reason: str


class Removed(_Body):
    place_id: str


class StepBody(_Body):
    channel: SentBy
    after_s: int = Field(ge=0, le=604_800, description="Since the live connections were tried.")
    least: Priority = Field(alias="from", description="From this priority on.")
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class QuietBody(_Body):
    begin: Clock
    end: Clock


class RulesBody(_Body):
    """How a person wants to be reached."""

    steps: list[StepBody] = Field(max_length=MAX_STEPS, description="One after the other, until somebody has seen it.")
    quiet_hours: QuietBody | None = Field(description="Nothing is sent then; it waits until they are over.")
    critical_breaks_quiet: bool
    time_zone: str = Field(max_length=64, description="As in Europe/Berlin.")
    shows_content: bool = Field(description="Title and text may leave the gateway, where its operator allows it too.")
    muted: list[Annotated[str, Field(pattern="^[a-z][a-z0-9_.-]{0,31}$")]] = Field(
        max_length=MAX_MUTED, description="Kinds that are kept and not sent."
    )
    digest_at: Clock = Field(description="When what is low is told, in one, each day.")


class ChannelRow(_Body):
    """Counts are of the last 24 hours."""

    channel: SentBy
    state: Health
    service: str = Field(description="The server, where one is set up for all.")
    places: int
    accepted: int
    failed: int
    unknown: int
    waiting: int
    last_at: str | None
    last_reason: str


class ChannelList(_Body):
    rows: list[ChannelRow]


def add_routes(api: Api, routes: "Routes") -> None:
    at = "/api/v1/notifications"
    place, missing = f"{at}/places/{{place_id}}", (Code.NOT_FOUND,)
    api.add("GET", f"{at}/channels", routes.list_notification_channels)
    api.add("GET", f"{at}/places", routes.list_places)
    api.add("POST", f"{at}/places", routes.add_place, status_code=201, problems=(Code.ADDRESS_REFUSED,))
    api.add("DELETE", place, routes.remove_place, problems=missing)
    api.add("POST", f"{place}/code", routes.send_code, problems=missing, idempotent=False)
    api.add("POST", f"{place}/confirm", routes.confirm_place, problems=missing)
    api.add("POST", f"{place}/test", routes.test_place, problems=missing, idempotent=False)
    api.add("GET", f"{at}/rules", routes.get_rules, response_model_by_alias=True)
    api.add("PUT", f"{at}/rules", routes.use_rules, response_model_by_alias=True)
    api.add("GET", "/api/v1/devices/{device_id}/push", routes.list_device_push, problems=missing)


class Routes:
    """`push_key`: what browsers subscribe with; `allows_content` and `gateway` are of the settings."""

    def __init__(
        self,
        places: Places,
        trying: Trying,
        overview: Overview,
        *,
        database: Database,
        directory: Directory,
        zone_of: ZoneOf,
        channels: frozenset[Channel],
        push_key: str,
        allows_content: bool,
        gateway: Callable[[], str],
    ) -> None:
        self._places = places
        self._trying = trying
        self._overview = overview
        self._database = database
        self._directory = directory
        self._zone_of = zone_of
        self._channels = channels
        self._push_key = push_key
        self._allows_content = allows_content
        self._gateway = gateway

    async def list_places(self, principal: Caller) -> PlaceList:
        """Where the caller is reached, and what this gateway can send by."""
        rows = [_place(one) for one in await self._places.of(principal)]
        channels: list[SentBy] = [_sent_by(one) for one in sorted(self._channels)]
        return PlaceList(rows=rows, channels=channels, push_key=self._push_key, content=self._allows_content)

    async def list_device_push(self, device_id: str, principal: Caller) -> DevicePlaces:
        """What a device subscribed to. Empty: it gets no pushes."""
        device = await self._directory.find(principal, device_id)
        found = await self._database.read(lambda tx: self._places.of_device(tx, device.device_id))
        return DevicePlaces(rows=[_place(one) for one in found])

    async def add_place(self, body: NewPlaceBody, principal: Caller) -> PlaceRow:
        """An e-mail address gets nothing before it is confirmed: have a code sent."""
        keys = body.keys or PushKeys(p256dh="", auth="")
        new = NewPlace(Channel(body.channel), body.address, body.name, keys.p256dh, keys.auth, body.token)
        return _place(await self._places.add(principal, new))

    async def remove_place(self, place_id: str, principal: Caller) -> Removed:
        await self._places.remove(principal, place_id)
        return Removed(place_id=place_id)

    async def send_code(self, place_id: str, principal: Caller) -> CodeSent:
        answer = await self._trying.send_code(principal, place_id, self._gateway())
        return CodeSent(state=_CODE_STATES.get(answer.outcome, "failed"), reason=answer.reason)

    async def confirm_place(self, place_id: str, body: Typed, principal: Caller) -> PlaceRow:
        return _place(await self._places.confirm(principal, place_id, body.code))

    async def test_place(self, place_id: str, principal: Caller) -> Tested:
        """Send a test and wait for what becomes of it. 200 also where it failed: `state` says so."""
        done = await self._trying.test(principal, place_id)
        return Tested(state=done.state, reason=done.reason)

    async def get_rules(self, principal: Caller) -> RulesBody:
        return RulesBody.model_validate(to_json(await self._places.rules(principal)))

    async def use_rules(self, body: RulesBody, principal: Caller) -> RulesBody:
        if await self._zone_of(body.time_zone) is None:
            raise Problem(Code.INVALID, "That time zone is not known here. Write it as in Europe/Berlin.")
        wanted = from_json(body.model_dump(by_alias=True, mode="json"))
        return RulesBody.model_validate(rules_module.to_json(await self._places.use_rules(principal, wanted)))

    async def list_notification_channels(self) -> ChannelList:
        return ChannelList(
            rows=[
                ChannelRow(
                    channel=_sent_by(one.channel),
                    state=one.health,
                    service=one.service,
                    places=one.places,
                    accepted=one.accepted,
                    failed=one.failed,
                    unknown=one.unknown,
                    waiting=one.waiting,
                    last_at=None if one.last is None else rfc3339_or_none(one.last.ended_at_ms),
                    last_reason="" if one.last is None else one.last.reason,
                )
                for one in await self._overview.channels()
            ]
        )


def _place(one: Place) -> PlaceRow:
    return PlaceRow(
        place_id=one.place_id,
        channel=_sent_by(one.channel),
        shown=shown(one),
        name=one.name,
        device_id=one.device_id,
        confirmed=one.is_confirmed,
        created_at=rfc3339(one.created_at_ms),
        last_ok_at=rfc3339_or_none(one.last_ok_at_ms),
        last_failed_at=rfc3339_or_none(one.last_failed_at_ms),
        reason=one.reason,
    )


_CODE_STATES: dict[Outcome, Literal["queued", "sent"]] = {Outcome.ACCEPTED: "sent", Outcome.PENDING: "queued"}
_SENT_BY: dict[Channel, SentBy] = {
    Channel.EMAIL: "email",
    Channel.NTFY: "ntfy",
    Channel.PUSH: "push",
    Channel.SMS: "sms",
    Channel.UNIFIEDPUSH: "unifiedpush",
}


def _sent_by(channel: Channel) -> SentBy:
    return _SENT_BY[channel]
