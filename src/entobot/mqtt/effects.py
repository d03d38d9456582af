"""What a connection asks of its driver, in order. Pure."""

from msgspec import Struct

from entobot.mqtt.packets import Connect, Publish, Reason, Subscribe, Unsubscribe


class Send(Struct, frozen=True, gc=False):
    data: bytes


class Open(Struct, frozen=True):
    """Verify who it is and open the session; answer with `opened` or `refused`."""

    connect: Connect
    expiry_s: int


class Store(Struct, frozen=True):
    """Commit this; answer with `stored`. `topic` is there, whatever alias was used."""

    number: int
    publish: Publish


class Release(Struct, frozen=True):
    """QoS 2: forget that this packet identifier was received; answer with `done`."""

    number: int
    packet_id: int


class Join(Struct, frozen=True):
    """Add subscriptions; answer with `done`."""

    number: int
    subscribe: Subscribe


class Part(Struct, frozen=True):
    """Take subscriptions away; answer with `done`."""

    number: int
    unsubscribe: Unsubscribe


class Finished(Struct, frozen=True, gc=False):
    """The session needs this delivery no more. Nothing waits for it. `is_withheld`: it may not be read any more."""

    seq: int
    is_withheld: bool = False


class Received(Struct, frozen=True, gc=False):
    """QoS 2: the receiver has this one; answer with `released` when that is committed."""

    seq: int


class Fetch(Struct, frozen=True, gc=False):
    """Read what the session has waiting after `after`; answer with `fetched`."""

    after: int


class Rest(Struct, frozen=True, gc=False):
    """Enough was sent at once: call `writable` when the socket takes more."""


class End(Struct, frozen=True, gc=False):
    """Close the connection. `expiry_s` is how long the session lives on, `keeps_will` whether its will is to be published."""

    reason: Reason
    expiry_s: int
    keeps_will: bool
    text: str = ""


Effect = Send | Open | Store | Release | Join | Part | Finished | Received | Fetch | Rest | End
