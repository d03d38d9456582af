"""What the transport gives to the layer above it, and what it asks of that layer."""

from collections.abc import Callable
from typing import Protocol

from entobot.gateway.upgrade import UpgradeRequest


class Link(Protocol):
    """One live WebSocket, as the layer above sees it. All calls are made on the loop's thread and never block.

    `send` accepts one text message; all frames of one loop tick go out in one write. Frames are dropped once the link
    is closing. `close` is idempotent, flushes what was queued and cuts the TCP connection when the peer has not
    finished the closing handshake after 5 s. A peer that lets more than 1 MiB pile up is cut at once.
    """

    @property
    def peer(self) -> str:
        """Remote address, "" over the Unix socket."""
        ...

    @property
    def subprotocol(self) -> str | None: ...
    @property
    def buffered_bytes(self) -> int:
        """Bytes accepted by `send` and not yet taken by the kernel."""
        ...

    @property
    def received_bytes(self) -> int:
        """Grows with every byte that arrives: a sign of life, whatever the frame."""
        ...

    @property
    def is_writable(self) -> bool:
        """False while the kernel takes no more; `LinkHandler.writable` tells when it does again."""
        ...

    def send(self, payload: bytes) -> None: ...
    def send_frame(self, frame: bytes) -> None:
        """As `send`, of a frame that `frames.text_frame` made: a broadcast frames once."""
        ...

    def close(self, code: int, reason: str = "") -> None: ...
    def ping(self) -> None: ...
    def set_max_message_bytes(self, limit: int) -> None:
        """At most 256 KiB, the size of the parser's own cap. A new link starts at 8 KiB."""
        ...


class LinkHandler(Protocol):
    """What the gateway does with one link. Called on the loop's thread; what it raises closes the link with 1011."""

    def opened(self) -> None: ...
    def text(self, payload: bytes) -> None:
        """One complete message, valid UTF-8."""
        ...

    def binary(self) -> None: ...
    def too_large(self) -> None:
        """A message over the cap came. The link closes with 1009 unless this closes it otherwise."""
        ...

    def pong(self) -> None: ...
    def over_limit(self, wait_s: float) -> None:
        """Too many control frames came; the next one is welcome in so many seconds. Must close the link."""
        ...

    def writable(self) -> None: ...
    def closed(self, code: int) -> None:
        """Exactly once, last: the code of the first close frame sent or received, 1006 when there was none."""
        ...


MakeHandler = Callable[[Link, UpgradeRequest], LinkHandler]


class Timer(Protocol):
    def cancel(self) -> None: ...


class Timers(Protocol):
    def after(self, delay_s: float, callback: Callable[[], None]) -> Timer: ...
