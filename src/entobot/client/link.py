"""What carries frames to a gateway and back. One per connection; made anew after each end."""

from collections.abc import Callable
from typing import Any, Protocol

from entobot.client.returning import Ended

OnFrame = Callable[[bytes], None]
OnEnd = Callable[[Ended], None]


class Link(Protocol):
    """Calls `on_frame` for each frame in order and `on_end` exactly once, both on the loop, neither after `abort`."""

    is_http: bool
    """No `hello` comes: the link authenticates each request itself."""

    def send(self, frame: dict[str, Any]) -> None:
        """Never waits, never raises: what an ended link takes is lost."""
        ...

    async def close(self) -> None:
        """End it in good order."""
        ...

    def abort(self) -> None:
        """End it now, without a word to the gateway."""
        ...


class CannotOpen(Exception):  # noqa: N818  reads as what happened
    """The link did not come to be. `ended` says when to try again."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
