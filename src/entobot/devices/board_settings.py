"""settings.json for a board with the client of `firmware/`: where the gateway is, its pin, the board's key."""

from typing import Any

from entobot.client.boards import find_for_boards
from entobot.client.local import LocalGateway

WIFI = {"ssid": "the network's name", "password": "its password"}


def board_settings(gateway: LocalGateway, device_id: str, api_key: str) -> dict[str, Any]:
    """`wifi` is for whoever puts it on the board to fill in. Raises Problem where boards cannot come."""
    found = find_for_boards(gateway)
    where = {"host": found.host, "port": found.port, "mqtt_port": found.mqtt_port, "pin": found.pin}
    return {"wifi": WIFI, "gateway": where, "device": {"id": device_id, "key": api_key}}
