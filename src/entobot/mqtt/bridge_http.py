"""REST of bridges to other brokers: translate only."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from entobot.config_mqtt import MqttBridge
from entobot.core.clock import rfc3339, rfc3339_or_none
from entobot.mqtt import bridge_store as store
from entobot.mqtt.bridge_store import BridgeRow, State
from entobot.storage.database import Database, Transaction
from entobot.web.routes import Api


class BridgeWay(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    here: str = Field(description="What it is here: of a board, below its topics.")
    topic: str = Field(description="Of the other broker.")


class BridgeBody(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    url: str
    takes: list[BridgeWay] = Field(description="What is taken from the other broker.")
    tells: list[BridgeWay] = Field(description="What the other broker is told.")
    state: State
    since: str | None = Field(description="Since when it is so; null: it was never tried.")
    node: str | None = Field(description="The node that holds it.")
    taken: int = Field(description="Messages of the other broker that were taken.")
    told: int = Field(description="Messages that the other broker has acknowledged.")
    waiting: int = Field(description="Messages that it has not acknowledged yet.")
    dropped: int = Field(description="Messages for it that are lost: too many waited, or it refused them.")
    refused: int = Field(description="Messages of the other broker that changed nothing.")
    refused_why: str = Field(description="The last of those.")
    refused_at: str | None
    error: str = Field(description="What is wrong, and what to do; empty: nothing is known.")


class BridgeList(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: list[BridgeBody]


def add_routes(api: Api, bridges: Sequence[MqttBridge], database: Database) -> None:
    async def list_bridges() -> BridgeList:
        """Every bridge of the settings, and how it is."""
        found = await database.read(_rows)
        return BridgeList(rows=[_body(one, found.get(one.name)) for one in bridges])

    api.add("GET", "/api/v1/mqtt/bridges", list_bridges)


def _rows(tx: Transaction) -> dict[str, BridgeRow]:
    return {row.name: row for row in store.all_rows(tx)}


def _body(one: MqttBridge, row: BridgeRow | None) -> BridgeBody:
    return BridgeBody(
        name=one.name,
        url=one.url,
        takes=[BridgeWay(here=way.to, topic=way.topic) for way in one.ins],
        tells=[BridgeWay(here=way.of, topic=way.topic) for way in one.outs],
        state=State.IDLE if row is None else row.state,
        since=None if row is None else rfc3339(row.since_ms),
        node=None if row is None else row.node,
        taken=0 if row is None else row.taken,
        told=0 if row is None else row.told,
        waiting=0 if row is None else row.waiting,
        dropped=0 if row is None else row.dropped,
        refused=0 if row is None else row.refused,
        refused_why="" if row is None else row.refused_why,
        refused_at=None if row is None else rfc3339_or_none(row.refused_at_ms),
        error="" if row is None else row.error,
    )
