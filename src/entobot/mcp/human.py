"""Port: how the tools reach people."""

from collections.abc import Mapping
from typing import Any, Protocol

Row = dict[str, Any]


class Human(Protocol):
    """Every method raises Problem for what the gateway refuses, and for a gateway that does not answer."""

    async def notify(self, note: Mapping[str, Any]) -> Row:
        """As `POST /api/v1/notifications`."""
        ...

    async def ask(self, question: Mapping[str, Any]) -> Row:
        """As `POST /api/v1/questions`: the question as it is now."""
        ...

    async def look(self, question_id: str, wait_s: float) -> Row:
        """The question once it is closed, or as it is after `wait_s` seconds."""
        ...

    async def take_back(self, question_id: str) -> Row: ...

    async def request(self, wish: Mapping[str, Any]) -> Row:
        """As `POST /api/v1/approvals`: the request as it is now."""
        ...

    async def look_at_request(self, request_id: str, wait_s: float) -> Row:
        """The request once it is decided, or as it is after `wait_s` seconds."""
        ...

    async def take_back_request(self, request_id: str) -> Row: ...
