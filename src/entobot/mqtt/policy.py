"""Who may publish and subscribe where: one pure function, so that another can take its place."""

from collections.abc import Callable
from dataclasses import dataclass

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


def own_client_id(device_id: str, client_id: str) -> bool:
    """`{device_id}`, or `{device_id}/…` for a device with several connections."""
    return client_id == device_id or client_id.startswith(f"{device_id}/")
