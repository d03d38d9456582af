"""Events that are shown and not stored, as they travel on the bus."""

import msgspec

from entobot.core.permissions import Scope


class Piece(msgspec.Struct, frozen=True):
    """Where a live event stands in a text that is being written: `length` characters at `offset`."""

    message_id: str
    offset: int
    length: int
    is_first: bool = False
    is_last: bool = False


class Live(msgspec.Struct, frozen=True):
    """A live event as it travels on the bus: shown to whoever is connected, then forgotten."""

    at_ms: int
    scope: Scope | None
    topic: str
    event: str
    piece: Piece | None = None
