"""Model providers: whose key is there, where it comes from, and whether it works. Keys go in and never come out."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

from entobot.agents import provider_store as store
from entobot.agents.choice import (
    BASE_URL_VARIABLE,
    COMPATIBLE,
    DEFAULT_MODELS,
    PROVIDERS,
    Choice,
    Endpoint,
    Keys,
    KeySource,
    choose,
    find_key,
    is_extra_installed,
    split_model,
)
from entobot.agents.key_seal import KeySeal
from entobot.agents.provider_store import ProviderRow
from entobot.agents.trying import BuildRunner, Tried, not_installed, places, try_endpoint
from entobot.audit.events import AuditEvent
from entobot.audit.service import Audit
from entobot.config import MODEL_KEY_VARIABLES, AgentSettings, Settings
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem, StartupRefused
from entobot.core.ids import Ids, Prefix
from entobot.core.permissions import Scope
from entobot.core.principal import Principal
from entobot.settings.model import Wrong, refusal
from entobot.settings.model_url import check_resolved
from entobot.settings.service import Beside, Change, StoredSettings, settings_changed
from entobot.sources import Source
from entobot.storage.database import Database, Transaction
from entobot.telemetry.log import get_logger

log = get_logger("agents")

BASE_URL = "agent.base_url"


@dataclass(frozen=True, slots=True)
class ProviderView:
    """`key_set_at_ms` of a stored key. `is_active`: it answers now."""

    name: str
    has_key: bool
    key_source: KeySource
    key_set_at_ms: int | None
    base_url: str | None
    default_model: str | None
    is_active: bool
    tested_at_ms: int | None
    last_test: Tried | None


Rows = Mapping[str, ProviderRow]
"""What is stored, by provider."""


async def read_providers(database: Database) -> dict[str, ProviderRow]:
    return await database.read(store.find_all)


class Providers:
    """`rows` are what is stored. `on_changed` is called when other keys hold."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        ids: Ids,
        audit: Audit,
        settings: StoredSettings,
        seal: KeySeal,
        environment: Mapping[str, str],
        rows: Rows,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._settings = settings
        self._seal = seal
        self._environment = environment
        self._rows = dict(rows)
        self._trying = asyncio.Semaphore(1)
        self._places = places()
        self.on_changed: Callable[[], None] = lambda: None
        self.build: BuildRunner | None = None
        """Filled by the composition root: only there adapters are named."""
        settings.renew_with(self.renew)

    # -- keys, for who builds runners

    def choose(self, agent: AgentSettings) -> Choice:
        """Raises StartupRefused."""
        return choose(agent, self._environment, is_extra_installed, self._keys(agent, self._rows))

    def _keys(self, agent: AgentSettings, rows: Rows) -> Keys:
        stored: dict[str, str] = {}
        for name, row in rows.items():
            if row.sealed_key is not None and (key := self._seal.open(row.sealed_key, name, _address(name, agent))):
                stored[name] = key
        layers = self._settings.layers
        return Keys(
            stored=stored,
            is_own_pinned=layers.source("agent", "api_key") in (Source.ENVIRONMENT, Source.COMMAND),
            is_url_stored=layers.source("agent", "base_url") is Source.STORED,
        )

    async def renew(self) -> None:
        """Use what another node has stored meanwhile."""
        rows = await read_providers(self._database)
        has_changed = {name: row.sealed_key for name, row in rows.items()} != {
            name: row.sealed_key for name, row in self._rows.items()
        }
        self._rows = rows
        if has_changed:
            self.on_changed()

    # -- look

    async def view(self) -> list[ProviderView]:
        """As stored. What this node uses is for `renew` to change: only that tells `on_changed`."""
        rows = await read_providers(self._database)
        return [self._view(name, rows) for name in PROVIDERS]

    def _view(self, name: str, rows: Rows) -> ProviderView:
        agent, row = self._settings.in_force.agent, rows.get(name, ProviderRow())
        key, source = find_key(name, agent, self._environment, self._keys(agent, rows))
        active = self._active()
        return ProviderView(
            name=name,
            has_key=bool(key),
            key_source=source,
            key_set_at_ms=row.key_set_at_ms if source is KeySource.STORED else None,
            base_url=(self._base_url() or None) if name == COMPATIBLE else None,
            default_model=DEFAULT_MODELS.get(name),
            is_active=active == name,
            tested_at_ms=row.tested_at_ms,
            last_test=None if row.test_result is None else Tried(**json.loads(row.test_result)),
        )

    def _base_url(self) -> str:
        return self._settings.in_force.agent.base_url or self._environment.get(BASE_URL_VARIABLE, "")

    def _active(self) -> str:
        try:
            endpoint = self.choose(self._settings.in_force.agent).endpoint
        except StartupRefused:
            return ""
        return "" if endpoint is None else COMPATIBLE if endpoint.base_url else endpoint.vendor

    # -- change

    async def put(
        self,
        principal: Principal,
        name: str,
        *,
        api_key: str | None = None,
        sets_key: bool = False,
        base_url: str | None = None,
        sets_url: bool = False,
    ) -> ProviderView:
        """Store a key, or take it away (None); and the address of `compatible`.

        A key holds for the address it was given for: with another address it is forgotten. Raises `not_found`,
        `invalid`, `settings_changed` where another node stored another key meanwhile, and what `StoredSettings.change`
        raises.
        """
        principal.require(Scope.SETTINGS)
        self._check_name(name)
        await self._check_url(name, base_url, sets_url=sets_url)
        if sets_key and api_key is not None and not (sets_url and name == COMPATIBLE):
            self._refuse_pinned(name)
        await self.renew()
        beside = self._beside(principal, name, api_key, sets_key=sets_key)
        values = {BASE_URL: base_url} if sets_url else {}
        await self._settings.change(principal, Change(values, by_route=(BASE_URL,), beside=beside))
        self.on_changed()
        return next(one for one in await self.view() if one.name == name)

    def _beside(self, principal: Principal, name: str, api_key: str | None, *, sets_key: bool) -> Beside:
        """The key's part of a change; what it will be is known once the address is."""
        basis = wanted = stored = self._rows

        def check(settings: Settings) -> None:
            nonlocal basis, wanted
            basis = self._rows
            wanted = basis | {name: self._wanted(name, settings.agent, api_key, sets_key=sets_key)}
            try:
                choose(settings.agent, self._environment, keys=self._keys(settings.agent, wanted))
            except StartupRefused:
                if self._can_answer():  # else it is no worse than before
                    raise

        def write(tx: Transaction, now_ms: int) -> None:
            nonlocal stored
            stored = store.find_all(tx)
            checked, after = basis.get(name, ProviderRow()).sealed_key, wanted[name].sealed_key
            if checked == after:
                return
            before = stored.get(name, ProviderRow()).sealed_key
            if before != checked:
                raise settings_changed()
            store.put_key(tx, name, after, now_ms)
            stored = store.find_all(tx)
            facts = {"from": _told(before), "to": _told(after)}
            subject = f"providers.{name}.api_key"
            event = AuditEvent.SETTINGS_CHANGED
            self._audit.record(tx, event, now_ms=now_ms, actor=principal, subject=subject, facts=facts)

        def done() -> None:
            self._rows = stored

        return Beside(check, write, done)

    def _wanted(self, name: str, agent: AgentSettings, api_key: str | None, *, sets_key: bool) -> ProviderRow:
        row, address = self._rows.get(name, ProviderRow()), _address(name, agent)
        if sets_key and api_key is not None:
            return replace(row, sealed_key=self._seal.close(api_key, name, address))
        is_of_another = address != _address(name, self._settings.in_force.agent)
        return replace(row, sealed_key=None) if sets_key or is_of_another else row

    def _can_answer(self) -> bool:
        try:
            self.choose(self._settings.in_force.agent)
        except StartupRefused:
            return False
        return True

    def _check_name(self, name: str) -> None:
        if name not in PROVIDERS:
            raise Problem(Code.NOT_FOUND, f"There is no provider of this name. There are: {', '.join(PROVIDERS)}.")

    async def _check_url(self, name: str, base_url: str | None, *, sets_url: bool) -> None:
        if sets_url and name != COMPATIBLE:
            raise refusal([Wrong("base_url", f"belongs to the provider '{COMPATIBLE}'.")])
        if base_url is not None:
            try:
                await asyncio.to_thread(check_resolved, base_url)
            except ValueError as error:
                raise refusal([Wrong("base_url", str(error))]) from None

    def _refuse_pinned(self, name: str) -> None:
        agent = self._settings.in_force.agent
        given = replace(self._keys(agent, {}), stored={})
        if find_key(name, agent, self._environment, given)[1] is not KeySource.ENVIRONMENT:
            return
        variable = MODEL_KEY_VARIABLES["openai" if name == COMPATIBLE else name]
        pin = self._settings.layers.pin("agent", "api_key") or f"the environment variable {variable}"
        raise refusal([Wrong("api_key", f"is set by {pin}, which wins. Change it there and restart.")])

    # -- try

    async def test(self, principal: Principal, name: str) -> Tried:
        """One smallest real call, remembered. Raises `not_found`, `invalid` without key or address, `rate_limited`."""
        principal.require(Scope.SETTINGS)
        self._check_name(name)
        if self._trying.locked():
            raise Problem(Code.RATE_LIMITED, "A provider is being tried. Ask again when that is done.", retry_after_s=5)
        async with self._trying:
            endpoint = self._endpoint(name)
            if self.build is None or not is_extra_installed():
                tried = not_installed()
            else:
                run_id = self._ids.new(Prefix.RUN)
                tried = await try_endpoint(self.build, endpoint, self._clock, run_id, self._places)
            now_ms, text = self._clock.now_ms(), json.dumps(asdict(tried))
            await self._database.write(lambda tx: store.put_test(tx, name, text, now_ms))
        log.info("provider.tested", provider=name, ok=tried.ok, code=tried.code)
        return tried

    def _endpoint(self, name: str) -> Endpoint:
        agent = self._settings.in_force.agent
        vendor, model = split_model(agent.model)
        key, _ = find_key(name, agent, self._environment, self._keys(agent, self._rows))
        if name == COMPATIBLE:
            if not (base_url := self._base_url()):
                raise refusal([Wrong("base_url", "is not set: there is no server to ask.")])
            return Endpoint("openai", model if vendor in ("", "openai") else "", base_url, key or None)
        if not key:
            raise refusal([Wrong("api_key", f"is not set for {name}.")])
        return Endpoint(name, model if vendor == name else DEFAULT_MODELS[name], None, key)


def _address(provider: str, agent: AgentSettings) -> str:
    """What a key is sealed for."""
    return agent.base_url if provider == COMPATIBLE else ""


def _told(sealed_key: bytes | None) -> str:
    return json.dumps("(not set)" if sealed_key is None else "(set)")
