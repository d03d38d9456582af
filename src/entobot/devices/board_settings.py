"""settings.json for a board with the client of `firmware/`: where the gateway is, its pin, the board's key."""

from typing import Any
from urllib.parse import SplitResult, urlsplit

from entobot.client.local import LocalGateway
from entobot.core.errors import Code, Problem

WIFI = {"ssid": "the network's name", "password": "its password"}


def board_settings(gateway: LocalGateway, device_id: str, api_key: str) -> dict[str, Any]:
    """`wifi` is for whoever puts it on the board to fill in."""
    origin, pin, mqtt_port = reach(gateway)
    where = {"host": origin.hostname or "", "port": origin.port or 443, "mqtt_port": mqtt_port, "pin": pin}
    return {"wifi": WIFI, "gateway": where, "device": {"id": device_id, "key": api_key}}


def reach(gateway: LocalGateway) -> tuple[SplitResult, str, int]:
    """The gateway's public URL in parts, its pin, its MQTT port. Raises Problem where boards cannot come."""
    pin = gateway.request("GET", "/api/certificate")["pin"]
    if pin is None:
        raise Problem(Code.INVALID, "Boards come by TLS, and the gateway has no certificate: set tls.mode.")
    sections: list[Any] = gateway.request("GET", "/api/v1/settings")["sections"]
    said: dict[str, Any] = {field["key"]: field["value"] for section in sections for field in section["fields"]}
    if not said["mqtt.enabled"] or not said["mqtt.port"]:
        raise Problem(Code.INVALID, "Boards come by MQTT, which is off: set mqtt.enabled = true and start again.")
    origin: str = gateway.request("GET", "/api/health")["origin"]
    return urlsplit(origin), pin, said["mqtt.port"]
