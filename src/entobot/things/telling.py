"""A command as a board hears of it, and whether it should still hear of it."""

import json

from entobot.core.clock import rfc3339
from entobot.storage.database import Transaction
from entobot.things import command_store
from entobot.things.model import Command


def told(one: Command) -> bytes:
    """What is sent to a board."""
    said = {
        "command_id": one.command_id,
        "name": one.name,
        "args": json.loads(one.args),
        "at": rfc3339(one.made_at_ms),
        "expires_at": rfc3339(one.expires_at_ms),
    }
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()


def is_over(tx: Transaction, payload: bytes) -> bool:
    """Of what `told` made. A command that is forgotten was over before."""
    found = command_store.find_command(tx, json.loads(payload)["command_id"])
    return found is None or found.is_over
