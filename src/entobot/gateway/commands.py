"""The shape of a device command, and the table that features fill."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from entobot.core.access import COMMANDS, Access, Open
from entobot.core.principal import Principal
from entobot.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the wire protocol.

    `data` is the type of its `data` member; unknown fields are refused (declare it with `forbid_unknown_fields`).
    `run(tx, principal, data, now_ms)` is a unit of work: synchronous, no I/O of its own, may be run again; what it
    returns becomes the result's `data` (anything msgspec can encode). It raises Problem to refuse, or returns one when
    something of the refusal (its audit line) has to be kept.
    `writes` False means it only reads: it runs on a snapshot and needs no idempotency row.
    `begets` takes what `run` returned and names what others take up later; they find the command's trace by it.
    """

    name: str
    data: type[msgspec.Struct]
    run: Callable[[Transaction, Principal, Any, int], object]
    writes: bool = True
    begets: Callable[[Any], str] | None = None

    @property
    def access(self) -> Access:
        return COMMANDS[self.name]

    def check(self, principal: Principal) -> None:
        """Raise `forbidden` unless the principal may call this."""
        access = self.access
        if isinstance(access, Open):
            return
        principal.require(access)


def command_table(commands: Iterable[Command]) -> dict[str, Command]:
    """Commands by name. Raises KeyError for one that the access table does not list, ValueError for a second one."""
    table: dict[str, Command] = {}
    for command in commands:
        _ = command.access
        if command.name in table:
            raise ValueError(f"two handlers for {command.name}")
        table[command.name] = command
    return table
