"""Which sessions a message goes to, and how. Pure (MQTT 5 §3.3.4, §4.8.2)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from entobot.mqtt.model import Message, StoredSubscription
from entobot.mqtt.topics import matches


@dataclass(frozen=True, slots=True)
class Target:
    """One session that gets the message once, however many of its filters match."""

    session: int
    node: str | None
    last_seq: int
    qos: int
    retain: bool
    identifiers: tuple[int, ...]


def targets(found: Iterable[StoredSubscription], message: Message, by_session: int, turn: int) -> list[Target]:
    """`by_session` is who published, `turn` a number that moves with each message: shares go round by it.

    Overlapping filters of a session make one delivery, of the highest QoS among them.
    """
    own: dict[int, list[StoredSubscription]] = {}
    shares: dict[tuple[str, str], list[StoredSubscription]] = {}
    for one in found:
        if not matches(one.filter, message.topic):
            continue
        if one.share:
            shares.setdefault((one.share, one.filter), []).append(one)
        elif not (one.no_local and one.session == by_session):
            own.setdefault(one.session, []).append(one)
    chosen = [_target(group, message) for group in own.values()]
    return chosen + [_target([_one_of(group, turn)], message) for group in shares.values()]


def _one_of(group: Sequence[StoredSubscription], turn: int) -> StoredSubscription:
    """In turn among those that are connected, else among all."""
    present = [one for one in group if one.node is not None] or group
    return present[turn % len(present)]


def _target(group: Sequence[StoredSubscription], message: Message) -> Target:
    first = group[0]
    return Target(
        session=first.session,
        node=first.node,
        last_seq=first.last_seq,
        qos=min(message.qos, max(one.qos for one in group)),
        retain=message.retain and any(one.retain_as_published for one in group),
        identifiers=tuple(one.identifier for one in group if one.identifier is not None),
    )
