"""Device commands: `run.cancel`."""

from typing import Annotated

from msgspec import Meta, Struct

from entobot.agents.service import Agents
from entobot.core.principal import Principal
from entobot.gateway.commands import Command
from entobot.storage.database import Transaction


class CancelRun(Struct, forbid_unknown_fields=True):
    run_id: Annotated[str, Meta(max_length=64)]


def commands(agents: Agents) -> list[Command]:
    def cancel(tx: Transaction, caller: Principal, data: CancelRun, now_ms: int) -> object:
        return {"run_id": data.run_id, "state": agents.cancel(tx, caller, data.run_id, now_ms)}

    return [Command("run.cancel", CancelRun, cancel)]
