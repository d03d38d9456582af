"""REST: `GET /api/v1/agents`, who can be given a conversation."""

from typing import Literal

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from entobot.agents.bridging import Bridges, BridgeState, Outside
from entobot.core.permissions import Role, Scope
from entobot.storage.database import Database, Transaction
from entobot.web.authentication import Caller
from entobot.web.routes import Api


class AgentRow(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str = Field(description="What `message.send` and `conversation.create` call it.")
    kind: Literal["a2a", "acp", "ag-ui", "openai", "webhook"]
    state: Literal["failed", "ready", "starting"]
    detail: str = Field(description="How it calls itself. For callers with `settings` also why it does not run.")
    is_default: bool = Field(description="It answers conversations that name nobody.")
    roles: list[Role] = Field(description="Whose messages it is given.")


class AgentList(BaseModel):
    rows: list[AgentRow]


def add_routes(api: Api, bridges: Bridges, database: Database) -> None:
    async def list_agents(caller: Caller, response: Response) -> AgentList:
        response.headers["Cache-Control"] = "no-store"
        sees_all = Scope.SETTINGS in caller.scopes

        def unit(tx: Transaction) -> list[Outside]:
            return [
                one for name, one in bridges.outside.items() if sees_all or bridges.may_use(tx, caller.user_id, name)
            ]

        found = await database.read(unit)
        return AgentList(rows=[_row(one, bridges.default, sees_all=sees_all) for one in found])

    api.add("GET", "/api/v1/agents", list_agents)


def _row(one: Outside, default: str, *, sees_all: bool) -> AgentRow:
    state: BridgeState = one.runner.standing()
    is_told = sees_all or state.standing.value != "failed"
    return AgentRow(
        name=one.bridge.name,
        kind=one.bridge.kind,
        state=state.standing.value,
        detail=state.detail if is_told else "",
        is_default=one.bridge.name == default,
        roles=list(one.bridge.roles),
    )
