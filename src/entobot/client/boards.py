"""Where the gateway of this machine takes boards."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from entobot.client.local import LocalGateway
from entobot.core.errors import Code, Problem


@dataclass(frozen=True, slots=True)
class ForBoards:
    """`pin` is of the TLS key, on both ports."""

    host: str
    port: int
    mqtt_port: int
    pin: str
    max_retained: int


def find_for_boards(gateway: LocalGateway) -> ForBoards:
    """Raises Problem where boards cannot come."""
    pin: str | None = gateway.request("GET", "/api/certificate")["pin"]
    if pin is None:
        raise Problem(Code.INVALID, "Boards come by TLS, and the gateway has no certificate: set tls.mode.")
    sections: list[Any] = gateway.request("GET", "/api/v1/settings")["sections"]
    said: dict[str, Any] = {field["key"]: field["value"] for section in sections for field in section["fields"]}
    if not said["mqtt.enabled"] or not said["mqtt.port"]:
        raise Problem(Code.INVALID, "Boards come by MQTT, which is off: set mqtt.enabled = true and start again.")
    url: str = gateway.request("GET", "/api/health")["origin"]
    origin = urlsplit(url)
    return ForBoards(
        origin.hostname or "", origin.port or 443, said["mqtt.port"], pin, max_retained=said["mqtt.max_retained"]
    )
