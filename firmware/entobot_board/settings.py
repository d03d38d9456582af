"""What the board is told in settings.json, and what it was given when it enrolled, in credentials.json."""

import json
import os

WANTED = {
    "gateway": dict,
    "device": dict,
    "enrolment": dict,
    "update": dict,
    "wifi": dict,
    "keep_alive_s": int,
    "buffer_kib": int,
    "watchdog_s": int,
}
GATEWAY = {"host": str, "port": int, "pin": str, "mqtt_host": str, "mqtt_port": int, "mqtt_pin": str}
DEVICE = {"id": str, "key": str}
ENROLMENT = {"key": str, "name": str}
UPDATE = {"type": str, "keys": list, "good_after_s": int, "trial_s": int}
WIFI = {"ssid": str, "password": str, "country": str}

BLOCK_BYTES = 4096
"""Of flash with littlefs: what even the smallest file takes."""
NO_ROOM = 28
"""The number of the error that the flash is full (ENOSPC; MicroPython has no name for it)."""


class Wrong(ValueError):  # noqa: N818  it says what happened
    """What is wrong in the settings, and what to write."""


class Settings:
    def __init__(self, said: dict) -> None:
        """Raises Wrong."""
        _check(said, WANTED, "settings.json")
        gateway = _part(said, "gateway", GATEWAY)
        device, wifi = _part(said, "device", DEVICE), _part(said, "wifi", WIFI)
        self.host = _must(gateway, "host", "gateway")
        self.pin = _must(gateway, "pin", "gateway")
        self.port = gateway.get("port", 18790)
        self.mqtt_host = gateway.get("mqtt_host", self.host)
        self.mqtt_port = gateway.get("mqtt_port", 8883)
        self.mqtt_pin = gateway.get("mqtt_pin", self.pin)
        self.device_id = device.get("id")
        self.key = device.get("key")
        self.enrolment = _part(said, "enrolment", ENROLMENT)
        if (
            not (self.device_id and self.key) and "enrolment" not in said
        ):  # its key goes when it was used: `enrol` looks
            raise Wrong("settings.json: device.id and device.key are missing, or enrolment.key in their place")
        self.update = _part(said, "update", UPDATE)
        if self.update and not (self.update.get("keys") and self.update.get("type")):
            raise Wrong("settings.json: update has the type of this board, and keys, a list of public release keys")
        self.ssid = wifi.get("ssid")
        self.password = wifi.get("password", "")
        self.country = wifi.get("country", "")
        self.keep_alive_s = _within(said, "keep_alive_s", 60, 10, 3600)
        self.buffer_kib = _within(said, "buffer_kib", 256, 4, 65536)
        self.watchdog_s = _within(said, "watchdog_s", 60, 20, 600)


def read(path: str) -> dict:
    """Raises Wrong."""
    try:
        with open(path) as file:
            said = json.load(file)
    except OSError:
        raise Wrong(path + " is missing: copy settings.example.json and fill it in") from None
    except ValueError:
        raise Wrong(path + " is no JSON") from None
    if not isinstance(said, dict):
        raise Wrong(path + " is no JSON object")
    return said


def write(path: str, said: dict) -> None:
    """Whole or not at all, also when the power goes."""
    try:
        with open(path + ".new", "w") as file:
            if hasattr(os, "chmod"):
                os.chmod(path + ".new", 0o600)  # on a computer others are near, and some of it is secret
            json.dump(said, file)
        os.rename(path + ".new", path)
    except OSError:
        try:
            os.remove(path + ".new")  # where the flash is full, half a file would keep it so
        except OSError:
            pass
        raise


def _check(said: dict, wanted: dict, where: str) -> None:
    for name, value in said.items():
        if name not in wanted:
            raise Wrong(where + ": there is no setting " + name)
        if not isinstance(value, wanted[name]) or isinstance(value, bool):
            raise Wrong(where + ": " + name + " is of the wrong kind")


def _part(said: dict, name: str, wanted: dict) -> dict:
    part = said.get(name, {})
    _check(part, wanted, "settings.json, " + name)
    return part


def _must(part: dict, name: str, where: str) -> str:
    if not part.get(name):
        raise Wrong("settings.json: " + where + "." + name + " is missing")
    return part[name]


def _within(said: dict, name: str, usual: int, least: int, most: int) -> int:
    value = said.get(name, usual)
    if not least <= value <= most:
        raise Wrong("settings.json: " + name + " is from " + str(least) + " to " + str(most))
    return value
