"""A route that FastAPI takes apart when it is first asked for."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from fastapi.routing import APIRoute
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send


class LateRoute(Route):
    """Stands where an `APIRoute` would, which is made by its first request or by the API's description.

    Making one takes a millisecond or two, to read the handler's signature and to build what checks its parameters:
    for all routes of the gateway a fifth of its start, and most gateways are never asked for most of them.
    """

    def __init__(self, path: str, handler: Callable[..., Any], method: str, make: Callable[[], APIRoute]) -> None:
        """`make` is called once. What is wrong with a handler is found then, so tests describe the whole API."""
        super().__init__(path, handler, methods=[method])
        self.methods = {method}  # HEAD is answered for every GET in one place
        self._make = make

    @cached_property
    def made(self) -> APIRoute:
        return self._make()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        if match is not Match.NONE:
            found["route"] = self  # as an `APIRoute` does: logs and traces name its path
        return match, found

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.made.handle(scope, receive, send)
