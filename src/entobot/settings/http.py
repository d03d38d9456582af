"""REST of the settings: translate only."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from fastapi import Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from entobot.audit.service import MAX_PAGE
from entobot.core.clock import rfc3339
from entobot.core.errors import Code
from entobot.core.principal import Principal
from entobot.settings.editable import Applies
from entobot.settings.groups import GROUPS
from entobot.settings.history import Happened
from entobot.settings.model import Kind
from entobot.settings.planning import Asking
from entobot.settings.service import Change, Changed, State, StoredSettings
from entobot.sources import Source
from entobot.web.authentication import Caller
from entobot.web.routes import Api

MAX_BYTES = 256 * 1024
LARGEST = 2**53 - 1
Key = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ChangedView(_Body):
    """`by` is a user id; empty for the command line on a gateway that was stopped."""

    by: str
    at: str


class FieldView(_Body):
    key: str
    title: str
    description: str
    kind: Kind
    value_schema: dict[str, Any] = Field(description="JSON Schema (2020-12) of what may be given. Durations: seconds.")
    default: Any
    value: Any = Field(description="In force now. Always null for a secret.")
    is_set: bool
    source: Source = Field(description="Where the value comes from: each in this order is beaten by the next.")
    pinned_by: str | None = Field(description="The variable or option that wins over anything stored.")
    is_editable: bool
    changed_by_route: str | None = Field(description="The route that changes it instead of this one.")
    applies: Applies = Field(description="When a change holds: `now`, or after the next start of each node.")
    waiting: Any = Field(description="What holds after the next start. Differs from `value` where `is_waiting`.")
    is_waiting: bool
    changed: ChangedView | None = Field(description="Who stored a value last; null where none is stored.")
    refused: str | None = Field(description="Why the stored value cannot be used; null where it can.")


class SectionView(_Body):
    name: str
    title: str
    fields: list[FieldView]


class RefusedView(_Body):
    key: str
    message: str


class SettingsView(_Body):
    version: int = Field(description="Give it with a change, so that nobody's change is overwritten unseen.")
    sections: list[SectionView]
    waiting: list[str] = Field(description="Keys that wait for a restart of this node.")
    refused: list[RefusedView] = Field(description="Stored values that cannot be used; the gateway goes on without.")


class GroupView(_Body):
    version: int
    origin: str = Field(description="The address that phones use.")
    fields: list[FieldView]


class _ChangeBody(_Body):
    dry_run: bool = Field(default=False, description="Tell what would change, and change nothing.")
    force: bool = Field(default=False, description="Even if it shuts out whoever asks.")


class SettingsChanges(_ChangeBody):
    changes: dict[Key, Any] = Field(
        max_length=200, description="Values by key; null takes back what is stored, so that file or default hold."
    )
    version: int = Field(ge=0, le=LARGEST, description="As it was read.")


class GroupChanges(_ChangeBody):
    values: dict[Key, Any] = Field(max_length=200, description="As `changes` of `PATCH /api/v1/settings`.")
    version: int | None = Field(default=None, ge=0, le=LARGEST, description="As it was read; null: whatever it is now.")


class DifferenceView(_Body):
    model_config = ConfigDict(serialize_by_alias=True)

    key: str
    before: Any = Field(alias="from")
    after: Any = Field(alias="to")
    applies: Applies


class ChangedSettings(_Body):
    version: int
    dry_run: bool
    changes: list[DifferenceView]


class HistoryQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    before: int | None = Field(default=None, ge=1, le=LARGEST, description="`next` of the page before.")
    limit: int = Field(default=50, ge=1, le=MAX_PAGE)


class HistoryRow(_Body):
    """`from` and `to` are null where the value is people's words or a secret. `seq` is the entry's in the audit log."""

    model_config = ConfigDict(serialize_by_alias=True)

    seq: int
    at: str
    key: str
    by: str | None
    device_id: str | None
    before: Any = Field(alias="from")
    after: Any = Field(alias="to")


class HistoryPage(_Body):
    rows: list[HistoryRow]
    next: int | None


def add_routes(api: Api, settings: StoredSettings, origin: str) -> None:
    """`origin` is the gateway's own."""
    routes = _Routes(settings, origin)
    told = [Code.SETTINGS_CHANGED]
    api.add("GET", "/api/v1/settings", routes.get_settings)
    api.add("GET", "/api/v1/settings/history", routes.list_settings_history)
    api.add("PATCH", "/api/v1/settings", routes.change_settings, problems=told, max_body_bytes=MAX_BYTES)
    api.add("GET", "/api/v1/settings/enterprise", routes.get_enterprise_settings)
    api.add("GET", "/api/v1/settings/mobile", routes.get_mobile_settings)
    put = routes.put_enterprise_settings
    api.add("PUT", "/api/v1/settings/enterprise", put, problems=told, max_body_bytes=MAX_BYTES)
    api.add("PUT", "/api/v1/settings/mobile", routes.put_mobile_settings, problems=told, max_body_bytes=MAX_BYTES)


class _Routes:
    def __init__(self, settings: StoredSettings, origin: str) -> None:
        self._settings = settings
        self._origin = origin

    async def get_settings(self, response: Response) -> SettingsView:
        response.headers["Cache-Control"] = "no-store"
        sections: dict[str, list[FieldView]] = {}
        for state in self._settings.states():
            sections.setdefault(state.at.section, []).append(_field(state))
        return SettingsView(
            version=self._settings.version,
            sections=[SectionView(name=name, title=_title(name), fields=rows) for name, rows in sections.items()],
            waiting=self._settings.waiting,
            refused=[RefusedView(key=key, message=why) for key, why in self._settings.refused.items()],
        )

    async def change_settings(self, request: Request, body: SettingsChanges, principal: Caller) -> ChangedSettings:
        return await self._change(request, principal, body, body.changes, body.version)

    async def list_settings_history(self, query: Annotated[HistoryQuery, Query()], response: Response) -> HistoryPage:
        response.headers["Cache-Control"] = "no-store"
        entries, following = await self._settings.history(query.before, query.limit)
        rows = [_happened(one) for one in entries]
        return HistoryPage(rows=rows, next=following)

    async def get_enterprise_settings(self, response: Response) -> GroupView:
        return self._group("enterprise", response)

    async def get_mobile_settings(self, response: Response) -> GroupView:
        return self._group("mobile", response)

    async def put_enterprise_settings(self, request: Request, body: GroupChanges, principal: Caller) -> ChangedSettings:
        return await self._change(request, principal, body, body.values, body.version, GROUPS["enterprise"])

    async def put_mobile_settings(self, request: Request, body: GroupChanges, principal: Caller) -> ChangedSettings:
        return await self._change(request, principal, body, body.values, body.version, GROUPS["mobile"])

    def _group(self, name: str, response: Response) -> GroupView:
        response.headers["Cache-Control"] = "no-store"
        states = self._settings.states(GROUPS[name])
        fields = [_field(state) for state in states]
        return GroupView(version=self._settings.version, origin=self._origin, fields=fields)

    async def _change(
        self,
        request: Request,
        principal: Principal,
        body: _ChangeBody,
        values: Mapping[str, Any],
        version: int | None,
        among: Collection[str] | None = None,
    ) -> ChangedSettings:
        asking = None if body.force else self._asking(request, principal)
        change = Change(values, version=version, asking=asking, among=among, is_dry_run=body.dry_run)
        return _changed(await self._settings.change(principal, change), body)

    def _asking(self, request: Request, principal: Principal) -> Asking:
        if principal.is_local:
            return Asking()
        origin = request.headers.get("origin")
        address = request.client.host if request.client else None
        return Asking(address, None if origin == self._origin else origin)


def _changed(changed: Changed, body: _ChangeBody) -> ChangedSettings:
    rows = [
        DifferenceView.model_validate({"key": one.key, "from": one.before, "to": one.after, "applies": one.applies})
        for one in changed.differences
    ]
    return ChangedSettings(version=changed.version, dry_run=body.dry_run, changes=rows)


def _happened(one: Happened) -> HistoryRow:
    return HistoryRow.model_validate(
        {
            "seq": one.seq,
            "at": rfc3339(one.at_ms),
            "key": one.key,
            "by": one.by,
            "device_id": one.device_id,
            "from": one.before,
            "to": one.after,
        }
    )


def _field(state: State) -> FieldView:
    at, row = state.at, state.changed
    elsewhere = None if at.rule is None else at.rule.elsewhere or None
    return FieldView(
        key=at.key,
        title=_title(at.name),
        description=at.description,
        kind=at.kind,
        value_schema=at.schema(),
        default=at.default,
        value=state.value,
        is_set=state.is_set,
        source=state.source,
        pinned_by=state.pinned_by,
        is_editable=at.rule is not None and elsewhere is None and state.pinned_by is None,
        changed_by_route=elsewhere,
        applies=Applies.RESTART if at.rule is None else at.rule.applies,
        waiting=state.waiting,
        is_waiting=state.is_waiting,
        changed=None if row is None else ChangedView(by=row.changed_by, at=rfc3339(row.changed_at_ms)),
        refused=state.refused,
    )


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()
