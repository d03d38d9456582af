"""What a stolen or broken board tries: each attempt is a connection of its own, in version 5, which says why not.

An attempt returns None where it was refused, else what it achieved; OSError and silence are refusals, too.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from entobot.mqtt.packets import (
    FAILURE,
    ConnAck,
    Connect,
    Disconnect,
    PubAck,
    Publish,
    Reason,
    SubAck,
    Subscribe,
    Subscription,
    Version,
    Will,
)

if TYPE_CHECKING:
    from entobot.mqtt.simulation import Account, Line, Place

FORGED = b"forged"
OVERSIZED = 1 << 20
MOST_RETAINED = 1000
"""A flood is no larger: where a gateway keeps more than that of one device, it is not tried."""


async def _opened(
    place: "Place", rogue: "Account", *, client_id: str = "", key: str = "", will: Will | None = None
) -> "tuple[Line, ConnAck | None]":
    from entobot.mqtt.simulation import Line

    line = await Line.open(place, Version.V5)
    line.send(
        Connect(
            Version.V5,
            client_id or f"{rogue.device_id}/rogue",
            True,
            60,
            rogue.device_id,
            (key or rogue.api_key).encode(),
            will,
        )
    )
    answer = await line.answer()
    return line, answer if isinstance(answer, ConnAck) else None


async def _ready(place: "Place", rogue: "Account") -> "Line":
    line, answer = await _opened(place, rogue)
    if answer is None or answer.reason is not Reason.SUCCESS:
        raise OSError("it is not let in at all")
    return line


async def _wildcards(place: "Place", rogue: "Account", victim: str) -> str | None:
    line = await _ready(place, rogue)
    wanted = ("#", "+/#", "devices/#", "devices/+/command", f"{victim}/#", "$SYS/#", "$share/x/#")
    line.send(Subscribe(1, tuple(Subscription(text, 1) for text in wanted)))
    answer = await line.answer()
    line.cut()
    if not isinstance(answer, SubAck):
        return None
    granted = [text for text, reason in zip(wanted, answer.reasons, strict=True) if reason < FAILURE]
    return f"subscribed to {granted}" if granted else None


async def _foreign_topics(place: "Place", rogue: "Account", victim: str) -> str | None:
    line = await _ready(place, rogue)
    found: list[str] = []
    topics = (f"{victim}/command", f"{victim}/telemetry/temperature", f"{victim}/status", "status", "$SYS/x")
    for number, topic in enumerate(topics, 1):
        line.send(Publish(topic, FORGED, 1, retain=True, packet_id=number))
        answer = await line.answer()
        if isinstance(answer, PubAck) and answer.reason < FAILURE:
            found.append(topic)
    line.cut()
    return f"published to {found}" if found else None


async def _own_commands(place: "Place", rogue: "Account", _victim: str) -> str | None:
    line = await _ready(place, rogue)
    line.send(Publish(f"devices/{rogue.device_id}/command", FORGED, 1, packet_id=1))
    answer = await line.answer()
    line.cut()
    return "gave itself a command" if isinstance(answer, PubAck) and answer.reason < FAILURE else None


async def _forged_ids(place: "Place", rogue: "Account", victim: str) -> str | None:
    victim_id = victim.removeprefix("devices/")
    will = Will(f"{victim}/status", FORGED, 1, retain=True)
    for what, (line, answer) in {
        "another's client id": await _opened(place, rogue, client_id=victim_id),
        "another's will": await _opened(place, rogue, will=will),
        "a key that is none": await _opened(place, rogue, key="ent_key_forged"),
    }.items():
        line.cut()
        if answer is not None and answer.reason is Reason.SUCCESS:
            return f"connected with {what}"
    return None


async def _retained_flood(place: "Place", rogue: "Account", _victim: str) -> str | None:
    if place.max_retained > MOST_RETAINED:
        return None
    line = await _ready(place, rogue)
    for number in range(1, place.max_retained + 2):
        line.send(Publish(f"devices/{rogue.device_id}/event/{number}", FORGED, 1, retain=True, packet_id=number))
        answer = await line.answer()
        if not isinstance(answer, PubAck) or answer.reason >= FAILURE:
            line.cut()
            return None
    line.cut()
    return f"more than {place.max_retained} retained messages were kept"


async def _oversized(place: "Place", rogue: "Account", _victim: str) -> str | None:
    line = await _ready(place, rogue)
    line.send(Publish(f"devices/{rogue.device_id}/event", bytes(OVERSIZED), 1, packet_id=1))
    answer = await line.answer()
    line.cut()
    return "a message of 1 MiB was taken" if isinstance(answer, PubAck) and answer.reason < FAILURE else None


async def _half_open(place: "Place", rogue: "Account", _victim: str) -> str | None:
    from entobot.mqtt.simulation import Line

    del rogue
    line = await Line.open(place)
    line.writer.write(b"\x10\x7f\x00")
    await line.receive()  # the gateway ends it, and says nothing
    return "half a CONNECT was answered"


async def _nonsense(place: "Place", rogue: "Account", _victim: str) -> str | None:
    line = await _ready(place, rogue)
    line.writer.write(b"\xf0\xff\xff\xff\x7f" + bytes(64))
    answer = await line.answer()
    line.cut()
    return None if isinstance(answer, Disconnect) else "nonsense was answered"


ATTEMPTS: "dict[str, Callable[[Place, Account, str], Awaitable[str | None]]]" = {
    "foreign_topics": _foreign_topics,
    "forged_ids": _forged_ids,
    "nonsense": _nonsense,
    "oversized": _oversized,
    "own_commands": _own_commands,
    "retained_flood": _retained_flood,
    "wildcards": _wildcards,
    "half_open": _half_open,
}
SLOW = frozenset({"half_open"})
"""What takes seconds. All others are tried once, however short a simulation is."""
