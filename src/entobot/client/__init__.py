"""The device's side of the protocol, for programs: pair, stay connected, send, follow, approve.

Start with `Client`. Nothing of the gateway is imported. The CLI, the tests and the simulator use it too.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from entobot.client.approvals import Action, read_action, shown
    from entobot.client.client import Client
    from entobot.client.events import (
        Approval,
        ApprovalDecided,
        ApprovalRequested,
        CaughtUp,
        DeviceChanged,
        Event,
        Item,
        Message,
        MessageCreated,
        Other,
        RunError,
        RunFinished,
        RunStarted,
        Settled,
        Snapshot,
        TextContent,
        TextEnd,
        Texts,
        TextStart,
        ToolCallResult,
    )
    from entobot.client.identity import Identity, IdentityFile, IdentityStore, MemoryIdentity
    from entobot.client.journal import Journal, MemoryJournal, Position, SqliteJournal
    from entobot.client.pairing import Asking, Invite
    from entobot.client.states import NoAnswer, State, Stopped
    from entobot.client.trust import Trust, WrongKey
    from entobot.core.errors import Code, Problem

_PLACES = {
    "approvals": ("Action", "read_action", "shown"),
    "client": ("Client",),
    "states": ("NoAnswer", "State", "Stopped"),
    "events": (
        "Approval",
        "ApprovalDecided",
        "ApprovalRequested",
        "CaughtUp",
        "DeviceChanged",
        "Event",
        "Item",
        "Message",
        "MessageCreated",
        "Other",
        "RunError",
        "RunFinished",
        "RunStarted",
        "Settled",
        "Snapshot",
        "TextContent",
        "TextEnd",
        "TextStart",
        "Texts",
        "ToolCallResult",
    ),
    "identity": ("Identity", "IdentityFile", "IdentityStore", "MemoryIdentity"),
    "journal": ("Journal", "MemoryJournal", "Position", "SqliteJournal"),
    "pairing": ("Asking", "Invite"),
    "trust": ("Trust", "WrongKey"),
}
_PLACE_OF = {name: f"entobot.client.{module}" for module, names in _PLACES.items() for name in names} | {
    "Code": "entobot.core.errors",
    "Problem": "entobot.core.errors",
}

__all__ = [
    "Action",
    "Approval",
    "ApprovalDecided",
    "ApprovalRequested",
    "Asking",
    "CaughtUp",
    "Client",
    "Code",
    "DeviceChanged",
    "Event",
    "Identity",
    "IdentityFile",
    "IdentityStore",
    "Invite",
    "Item",
    "Journal",
    "MemoryIdentity",
    "MemoryJournal",
    "Message",
    "MessageCreated",
    "NoAnswer",
    "Other",
    "Position",
    "Problem",
    "RunError",
    "RunFinished",
    "RunStarted",
    "Settled",
    "Snapshot",
    "SqliteJournal",
    "State",
    "Stopped",
    "TextContent",
    "TextEnd",
    "TextStart",
    "Texts",
    "ToolCallResult",
    "Trust",
    "WrongKey",
    "read_action",
    "shown",
]


def __getattr__(name: str) -> Any:
    """Loaded when first used: the command line's `--help` needs none of it."""
    place = _PLACE_OF.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(place), name)
