"""REST routes of the agent's settings."""

from typing import Annotated, Literal

from fastapi import Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from entobot.agents.bot import Bot, BotView
from entobot.web.authentication import Caller
from entobot.web.routes import Api

MAX_INSTRUCTIONS_CHARACTERS = 16_000


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


def add_routes(api: Api, bot: Bot) -> None:
    routes = _Routes(bot)
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


def _settings(view: BotView) -> BotSettings:
    choice = view.choice
    agent = AgentState(runner_kind=choice.runner_kind, model=choice.model, why=choice.why, fix=choice.fix)
    return BotSettings.model_validate({**view.values, "source": {**view.sources}, "agent": agent})
