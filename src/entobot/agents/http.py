"""REST routes of the agent's settings."""

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import Path, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator

from entobot.agents.bot import Bot, BotView
from entobot.agents.choice import KeySource
from entobot.agents.providers import Providers, ProviderView
from entobot.core.clock import rfc3339
from entobot.core.errors import Code
from entobot.settings.editable import MAX_INSTRUCTIONS_CHARACTERS
from entobot.web.authentication import Caller
from entobot.web.routes import Api

Name = Annotated[str, Path(max_length=32)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("a model's name has visible characters only")
    return text


class BotChanges(_Body):
    """A field that is left out stays as it is; null goes back to what the file or the default says."""

    model: Annotated[str, AfterValidator(_printable)] | None = Field(
        default=None, max_length=200, description="`vendor:model`, or a name at `agent.base_url`. Empty: the vendor's."
    )
    temperature: float | None = Field(default=None, strict=True, ge=0, le=2)
    max_tokens: int | None = Field(default=None, strict=True, ge=1, le=10_000_000)
    instructions: str | None = Field(default=None, max_length=MAX_INSTRUCTIONS_CHARACTERS)
    runner: Literal["auto", "echo", "llm", "none"] | None = None


Source = Literal["default", "file", "stored", "environment", "command"]


class BotSources(_Body):
    model: Source
    temperature: Source
    max_tokens: Source
    instructions: Source
    runner: Source


class AgentState(_Body):
    runner_kind: str = Field(description="Who answers now: `echo`, `llm` or `none`.")
    model: str
    why: str
    fix: str | None = Field(description="What is missing for a model; null when nothing is.")


class BotSettings(_Body):
    model: str
    temperature: float | None
    max_tokens: int | None
    instructions: str
    runner: str
    source: BotSources = Field(description="Where each value comes from. `environment` and `command` win over changes.")
    agent: AgentState


class ProviderChanges(_Body):
    """A field that is left out stays as it is."""

    api_key: SecretStr | None = Field(
        default=None, min_length=1, max_length=500, description="Goes in and never comes out; null takes it away."
    )
    base_url: Annotated[str, AfterValidator(_printable)] | None = Field(
        default=None,
        max_length=500,
        description="Of `compatible` only. With another address the stored key is forgotten; null: file or default.",
    )

    @field_validator("api_key", mode="after")
    @classmethod
    def _visible(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not all("!" <= one <= "~" for one in key.get_secret_value()):
            raise ValueError("a key has visible ASCII characters only")
        return key


class TestResult(_Body):
    __test__ = False

    ok: bool
    model: str
    latency_ms: int = Field(description="Of the call, without loading the library.")
    code: str = Field(description="Code of a run's error (docs/reference/errors.md); empty when it answered.")
    problem: str
    fix: str = Field(description="What to do; empty when nothing is.")


class LastTest(_Body):
    at: str
    ok: bool
    problem: str


class Provider(_Body):
    name: str
    has_key: bool
    key_source: KeySource
    key_set_at: str | None = Field(description="When the stored key was given; of the key itself nothing is told.")
    base_url: str | None
    default_model: str | None
    is_active: bool = Field(description="It answers now.")
    last_test: LastTest | None


class ProviderList(_Body):
    rows: list[Provider]


def add_routes(api: Api, bot: Bot, providers: Providers) -> None:
    routes = _Routes(bot)
    of = _ProviderRoutes(providers)
    path = "/api/v1/settings/providers"
    api.add("GET", path, of.list_providers)
    told = [Code.NOT_FOUND, Code.SETTINGS_CHANGED]
    api.add("PUT", f"{path}/{{name}}", of.put_provider, problems=told, idempotent=False, max_body_bytes=8192)
    api.add("POST", f"{path}/{{name}}/test", of.test_provider, problems=[Code.NOT_FOUND], idempotent=False)
    api.add("GET", "/api/v1/settings/bot", routes.get_bot_settings)
    api.add("PUT", "/api/v1/settings/bot", routes.put_bot_settings)


class _Routes:
    def __init__(self, bot: Bot) -> None:
        self._bot = bot

    async def get_bot_settings(self, response: Response) -> BotSettings:
        response.headers["Cache-Control"] = "no-store"
        return _settings(self._bot.view())

    async def put_bot_settings(self, body: BotChanges, principal: Caller) -> BotSettings:
        changes = {name: getattr(body, name) for name in body.model_fields_set}
        return _settings(await self._bot.change(principal, changes))


class _ProviderRoutes:
    def __init__(self, providers: Providers) -> None:
        self._providers = providers

    async def list_providers(self, response: Response) -> ProviderList:
        response.headers["Cache-Control"] = "no-store"
        return ProviderList(rows=[_provider(one) for one in await self._providers.view()])

    async def put_provider(self, name: Name, body: ProviderChanges, principal: Caller) -> Provider:
        key = None if body.api_key is None else body.api_key.get_secret_value()
        view = await self._providers.put(
            principal,
            name,
            api_key=key,
            sets_key="api_key" in body.model_fields_set,
            base_url=body.base_url,
            sets_url="base_url" in body.model_fields_set,
        )
        return _provider(view)

    async def test_provider(self, name: Name, principal: Caller) -> TestResult:
        return TestResult.model_validate(asdict(await self._providers.test(principal, name)))


def _provider(view: ProviderView) -> Provider:
    last, at_ms = view.last_test, view.tested_at_ms
    return Provider(
        name=view.name,
        has_key=view.has_key,
        key_source=view.key_source,
        key_set_at=None if view.key_set_at_ms is None else rfc3339(view.key_set_at_ms),
        base_url=view.base_url,
        default_model=view.default_model,
        is_active=view.is_active,
        last_test=None
        if last is None or at_ms is None
        else LastTest(at=rfc3339(at_ms), ok=last.ok, problem=f"{last.problem} {last.fix}".strip()),
    )


def _settings(view: BotView) -> BotSettings:
    choice = view.choice
    agent = AgentState(runner_kind=choice.runner_kind, model=choice.model, why=choice.why, fix=choice.fix)
    return BotSettings.model_validate({**view.values, "source": {**view.sources}, "agent": agent})
