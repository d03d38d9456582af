"""Who may publish and subscribe where: one pure function, so that another can take its place."""

from collections.abc import Callable
from dataclasses import dataclass

from entobot.core.topic_limits import TopicLimits, is_within
from entobot.mqtt.model import Action

DOWNWARD = frozenset({"command", "notification", "update"})
"""What the gateway says to a device, and nobody else."""


@dataclass(frozen=True, slots=True)
class Decision:
    """`rule` says in words which rule decided; it is shown to the device."""

    is_allowed: bool
    rule: str


MayConnect = Callable[[str, str], bool]
"""`may_connect(device_id, client_id)`."""


def own_subtree(device_id: str, action: Action, text: str) -> Decision:
    """A device reaches what is below `devices/{device_id}/`, and nothing else; the gateway's own topics there it reads."""
    levels = text.split("/")
    if len(levels) < 3 or levels[0] != "devices" or levels[1] != device_id:
        return Decision(is_allowed=False, rule=f"a device reaches devices/{device_id}/ only")
    if action is Action.PUBLISH and levels[2] in DOWNWARD:
        return Decision(is_allowed=False, rule=f"{levels[2]} is what the gateway says to a device")
    return Decision(is_allowed=True, rule="own subtree")


def narrowed(
    decision: Decision, limits: TopicLimits, device_id: str, credential_id: str, action: Action, text: str
) -> Decision:
    """What remains of a decision about a device under the limits of the credential that it showed.

    The only way in which the two are combined: nothing is permitted that was denied. Of a filter with wildcards,
    something has to lie within the limits; each message is decided by its own topic.
    """
    kept = limits.publish if action is Action.PUBLISH else limits.subscribe
    if not decision.is_allowed or kept is None or is_within(kept, device_id, text):
        return decision
    verb = "publish" if action is Action.PUBLISH else "subscribe to"
    return Decision(is_allowed=False, rule=f"{credential_id} may {verb} {', '.join(kept) or 'nothing'} only")


def own_client_id(device_id: str, client_id: str) -> bool:
    """`{device_id}`, or `{device_id}/…` for a device with several connections."""
    return client_id == device_id or client_id.startswith(f"{device_id}/")
