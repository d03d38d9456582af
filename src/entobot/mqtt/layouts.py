"""Other layouts of topics, for boards that were made for them. Pure.

A connection whose client id ends in `/NAME` names its topics by the layout of that name; everything behind that
(policies, the store, other connections) knows ours only. What a layout does not map, or maps for another device or
person, stays as it was sent, and is refused as any topic that is not the device's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from entobot.mqtt.packets import Connect, Publish, Subscribe, Unsubscribe
from entobot.mqtt.topics import SHARE, split_share


@dataclass(frozen=True, slots=True)
class Layout:
    """`root` has `{device_id}` and perhaps `{user_id}` as levels. `names` maps what follows it to what follows ours
    (`devices/{device_id}/`); where it is empty, both are the same.
    """

    root: str
    names: Mapping[str, str] = field(default_factory=dict[str, str])

    def of(self, device_id: str, user_id: str) -> "Names":
        root = self.root.format(device_id=device_id, user_id=user_id)
        return Names(f"{root}/", f"devices/{device_id}/", self.names)


class Names:
    """How one connection names topics. `Names()` is ours."""

    __slots__ = ("_back", "_names", "_ours", "_theirs")

    def __init__(self, theirs: str = "", ours: str = "", names: Mapping[str, str] | None = None) -> None:
        self._theirs = theirs
        self._ours = ours
        self._names = names or {}
        self._back = {one: other for other, one in self._names.items()}

    def ours(self, text: str) -> str:
        """Of their topic or filter, a shared one included. One wildcard behind their root is all that is ours."""
        if not self._theirs:
            return text
        share, bare = split_share(text)
        rest = bare.removeprefix(self._theirs)
        if rest == bare or not rest:
            return text
        if self._names:
            if rest not in ("#", "+") and rest not in self._names:
                return text
            rest = "#" if rest in ("#", "+") else self._names[rest]
        return (f"{SHARE}{share}/" if share else "") + self._ours + rest

    def theirs(self, topic: str) -> str:
        """Of a topic of ours; what their layout has no name for keeps ours behind their root."""
        if not self._theirs or not topic.startswith(self._ours):
            return topic
        rest = topic[len(self._ours) :]
        return self._theirs + self._back.get(rest, rest)

    def connect(self, packet: Connect) -> Connect:
        if packet.will is None or not self._theirs:
            return packet
        will = msgspec.structs.replace(packet.will, topic=self.ours(packet.will.topic))
        return msgspec.structs.replace(packet, will=will)

    def publish(self, packet: Publish) -> Publish:
        return msgspec.structs.replace(packet, topic=self.ours(packet.topic)) if self._theirs else packet

    def subscribe(self, packet: Subscribe) -> Subscribe:
        if not self._theirs:
            return packet
        wanted = tuple(msgspec.structs.replace(one, filter=self.ours(one.filter)) for one in packet.subscriptions)
        return msgspec.structs.replace(packet, subscriptions=wanted)

    def unsubscribe(self, packet: Unsubscribe) -> Unsubscribe:
        if not self._theirs:
            return packet
        return msgspec.structs.replace(packet, filters=tuple(map(self.ours, packet.filters)))


OURS = Names()


def names_of(layouts: Mapping[str, Layout], client_id: str, device_id: str, user_id: str) -> Names:
    """By what follows the device's id in its client id."""
    layout = layouts.get(client_id.removeprefix(f"{device_id}/"))
    return OURS if layout is None else layout.of(device_id, user_id)
