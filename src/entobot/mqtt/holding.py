"""What is held of sessions while they are connected, and what a broker is told of whoever is connected."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from entobot.core.topic_limits import NO_LIMITS, TopicLimits
from entobot.mqtt.model import Action, Delivery
from entobot.mqtt.policy import Decision, MayConnect, narrowed, own_client_id, own_subtree
from entobot.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one device may make the gateway keep."""

    max_queued: int = 1000
    """Messages that wait for one session."""
    max_subscriptions: int = 64
    """Of one session."""
    max_sessions: int = 8
    max_retained: int = 256


class LiveSession(Protocol):
    """A connection of this node, as the service sees it. Must not block."""

    @property
    def connection(self) -> int: ...
    @property
    def device_id(self) -> str: ...
    def told(self, delivery: Delivery) -> None: ...
    def show_message(self, delivery: Delivery) -> None: ...
    def has_news(self, last_seq: int) -> None: ...
    def taken_over(self) -> None: ...
    def rules_changed(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose session it is. `epoch` is the device's: a session of an earlier one is not gone on with. `credential_id` is
    the API key or certificate that was shown last.
    """

    device_id: str
    user_id: str
    epoch: int
    credential_id: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """A session that a connection holds."""

    session: int
    connection: int
    owner: Owner
    is_present: bool
    sent_seq: int
    received: frozenset[int]


class Superseded(Exception):  # noqa: N818  reads as what happened
    """Another connection has taken the session, or it is gone."""


class CutOff(Exception):  # noqa: N818  reads as what happened
    """The device was suspended or revoked, or has other credentials."""


class TooManySessions(Exception):  # noqa: N818  reads as what happened
    pass


IsStanding = Callable[[Transaction, str, int | None], bool]
"""`is_standing(tx, device_id, epoch)`: the device may still act, with these credentials where an epoch is named."""


class Forbidden(Exception):  # noqa: N818  reads as what happened
    """A will that may not be published; the text is the rule."""


Decide = Callable[[Transaction, str, Action, str], Decision]
"""`decide(tx, device_id, action, topic or filter)`; a filter comes without `$share/…`."""
MayReceive = Callable[[Transaction, str, str], bool]
"""`may_receive(tx, device_id, topic)`: asked of every message that is brought to a session, so that a subscription
that may no longer be stops without being taken away.
"""


def _own_subtree(_tx: Transaction, device_id: str, action: Action, text: str) -> Decision:
    return own_subtree(device_id, action, text)


def _own_topic(_tx: Transaction, device_id: str, topic: str) -> bool:
    return topic.startswith(f"devices/{device_id}/")


LimitsOf = Callable[[Transaction, str], TopicLimits]
"""`limits_of(tx, credential_id)`"""


def _no_limits(_tx: Transaction, _credential_id: str) -> TopicLimits:
    return NO_LIMITS


Holds = Callable[[Transaction, str, int], bool]
"""`holds(tx, credential_id, now_ms)`: the API key or certificate was neither revoked nor has it run out."""


def _always(_tx: Transaction, _credential_id: str, _now_ms: int) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Rules:
    """Without others: a device reaches its own subtree, whatever it shows."""

    decide: Decide = _own_subtree
    may_receive: MayReceive = _own_topic
    may_connect: MayConnect = own_client_id
    limits_of: LimitsOf = _no_limits
    holds: Holds = _always

    def judge(self, tx: Transaction, device_id: str, credential_id: str, action: Action, text: str) -> Decision:
        """Of the device, narrowed to what its credential is limited to."""
        decision = self.decide(tx, device_id, action, text)
        if not decision.is_allowed or not credential_id:
            return decision
        return narrowed(decision, self.limits_of(tx, credential_id), device_id, credential_id, action, text)

    def may_bring(self, tx: Transaction, device_id: str, credential_id: str, topic: str) -> bool:
        """Whether a message may be brought to a session of the device that was opened with this credential."""
        if not self.may_receive(tx, device_id, topic):
            return False
        return not credential_id or self._is_kept(tx, device_id, credential_id, topic)

    def _is_kept(self, tx: Transaction, device_id: str, credential_id: str, topic: str) -> bool:
        allowed = Decision(is_allowed=True, rule="")
        limits = self.limits_of(tx, credential_id)
        return narrowed(allowed, limits, device_id, credential_id, Action.SUBSCRIBE, topic).is_allowed
