"""The settings of MQTT: whether boards may come by it, and what is kept for them."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator

from entobot.config_types import Duration, Section, Words

KIB = 1024


KNOWN_LAYOUTS: dict[str, dict[str, Any]] = {
    "topdog": {
        "root": "topdog/{user_id}/{device_id}",
        "names": {
            "acknowledgment": "result",
            "approval_request": "notification/approval_request",
            "build_status": "notification/build_status",
            "command_result": "notification/command_result",
            "heartbeat": "event/heartbeat",
            "notification": "notification",
            "pairing_request": "event/pairing_request",
            "pairing_response": "notification/pairing_response",
            "voice_command": "event/voice_command",
        },
    },
    "unhidra": {"root": "unhidra/devices/{device_id}", "names": {}},
}
"""Layouts of earlier systems: to be had by their name alone."""
_ROOT = re.compile(r"(?:[\w.-]+|\{user_id\}|\{device_id\})(?:/(?:[\w.-]+|\{user_id\}|\{device_id\}))*")
_NAME = re.compile(r"[\w.-]+(?:/[\w.-]+){0,8}")
_OURS = re.compile(r"(?:telemetry|status|event|result|command|notification)(?:/[\w.-]+){0,8}")


def _tables(value: object) -> object:
    """A variable holds JSON. Layouts that are known need their name alone."""
    found: Any = json.loads(value) if isinstance(value, str) else value
    if not isinstance(found, list | tuple):
        return found
    rows: list[Any] = list(found)  # pyright: ignore[reportUnknownArgumentType]  whatever was written; pydantic looks at each
    return tuple(map(_filled_in, rows))


def _filled_in(row: Any) -> Any:
    if not isinstance(row, dict):
        return row
    said: dict[Any, Any] = row  # pyright: ignore[reportUnknownVariableType]  whatever was written; pydantic looks at it
    return KNOWN_LAYOUTS.get(str(said.get("name")), {}) | said


class MqttLayout(Section):
    """Topics as boards of another system name them."""

    name: str = Field(pattern=r"^[a-z0-9-]{1,32}$", description="What ends the client id of boards that use it.")
    root: str = Field(description="What their topics begin with: `{device_id}`, perhaps `{user_id}`, among levels.")
    names: dict[str, str] = Field(
        default_factory=dict[str, str],
        max_length=64,
        description="What follows their root, and what follows ours in its place. Empty: both are the same.",
    )

    @field_validator("root")
    @classmethod
    def _is_root(cls, root: str) -> str:
        levels = root.split("/")
        if _ROOT.fullmatch(root) is None or levels.count("{device_id}") != 1 or levels.count("{user_id}") > 1:
            raise ValueError("is made of levels, one of them {device_id}, at most one {user_id}.")
        if levels[0] == "devices" or len(levels) > 8:
            raise ValueError("is of at most eight levels, and does not begin with 'devices'.")
        return root

    @field_validator("names")
    @classmethod
    def _are_names(cls, names: dict[str, str]) -> dict[str, str]:
        if not all(map(_NAME.fullmatch, names)) or not all(map(_OURS.fullmatch, names.values())):
            raise ValueError("map names to telemetry, status, event, result, command or notification, or below them.")
        if len(set(names.values())) < len(names):
            raise ValueError("map two names to the same topic.")
        return names


CAPTURE = re.compile(r"\{([a-z_]+)\}")
_TO = re.compile(r"(?:telemetry/(?:[a-z][a-z0-9_]{0,31}|\{[a-z_]+\})|telemetry|event|status|result)")
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
_SCHEMES = {"mqtt": 1883, "mqtts": 8883}
DEVICE = "device"


class MqttBridgeIn(Section):
    """What is taken from the other broker: it is as if the board itself had said it here."""

    topic: str = Field(
        min_length=1,
        max_length=512,
        description="Of the other broker. Levels may be `{device}`, whose it is, further `{words}`, and `+`; the last "
        "one `#`.",
    )
    to: str = Field(
        description="`telemetry/NAME`, `telemetry` (a batch), `event`, `status` or `result`. NAME may be a `{word}` of "
        "`topic`."
    )
    value: str = Field(
        default="", max_length=256, description="JSON Pointer to the reading in the payload. Empty: all of it."
    )
    device: str = Field(default="", max_length=128, description="Whose it is, where `topic` has no `{device}`.")

    @field_validator("topic")
    @classmethod
    def _is_filter(cls, topic: str) -> str:
        levels, named = topic.split("/"), CAPTURE.findall(topic)
        bare = [level for level in levels if CAPTURE.fullmatch(level) is None]
        if topic.startswith("$") or len(levels) > 32 or len(set(named)) < len(named) or not topic.isprintable():
            raise ValueError("is a filter whose words differ, and none of '$share' or '$SYS'.")
        if any(set(level) & set("{}#+") and level not in ("+", "#") for level in bare) or "#" in levels[:-1]:
            raise ValueError("has {words} and + as whole levels, and # as the last one.")
        return topic

    @model_validator(mode="after")
    def _fits_together(self) -> "MqttBridgeIn":
        named = set(CAPTURE.findall(self.topic))
        if _TO.fullmatch(self.to) is None or not set(CAPTURE.findall(self.to)) <= named - {DEVICE}:
            raise ValueError("to is telemetry/NAME, telemetry, event, status or result; {words} are those of topic.")
        if (DEVICE in named) == bool(self.device):
            raise ValueError("topic has a level {device}, or device says whose it is: one of both.")
        if _POINTER.fullmatch(self.value) is None or (self.value and not self.to.startswith("telemetry/")):
            raise ValueError("value is a JSON Pointer as /temp, and is for telemetry/NAME.")
        return self


class MqttBridgeOut(Section):
    """What is told to the other broker."""

    of: Literal["telemetry", "status", "command"] = Field(
        description="Readings, whether a board is there (`online`, `stale`, `offline`), or commands to it."
    )
    topic: str = Field(
        min_length=1,
        max_length=512,
        description="Of the other broker, with `{device}`, `{device_id}`, and for readings `{name}`.",
    )
    payload: Literal["value", "json"] = Field(
        default="value", description="Of a reading: the value alone, or an object of `value` and `at`."
    )
    retain: bool = Field(default=False, description="Whether the other broker keeps the last one of each topic.")

    @model_validator(mode="after")
    def _fits_together(self) -> "MqttBridgeOut":
        known = {DEVICE, "device_id"} | ({"name"} if self.of == "telemetry" else set[str]())
        named, rest = CAPTURE.findall(self.topic), CAPTURE.sub("", self.topic)
        if not {DEVICE, "device_id"} & set(named) or not set(named) <= known:
            raise ValueError(f"topic has {{device}} or {{device_id}}, and none but {', '.join(sorted(known))}.")
        if set(rest) & set("{}#+") or not rest.isprintable() or self.topic.startswith("$SYS"):
            raise ValueError("topic has no + or #, and braces around words only.")
        if self.of == "command" and self.retain:
            raise ValueError("a command is not retained: it would be carried out again and again.")
        return self


class MqttBridge(Section):
    """A broker elsewhere that this gateway connects to as a client."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,31}$", description="How lists and metrics call it.")
    url: str = Field(description="`mqtts://HOST[:PORT]`, or `mqtt://…` without TLS.")
    protocol: Literal["5", "3.1.1"] = Field(default="5", description="Version of MQTT.")
    client_id: str = Field(
        default="",
        max_length=64,
        pattern=r"^[A-Za-z0-9_.:/-]*$",
        description="Empty: `entobot-NAME-` and letters that are the same on every node of this gateway.",
    )
    username: str = Field(default="", max_length=256, description="Empty: none is sent.")
    password_file: Path | None = Field(default=None, description="File with the password. Empty: none is sent.")
    ca_file: Path | None = Field(
        default=None, description="The authority of its certificate, in PEM, and no other. Empty: those of the system."
    )
    certificate_file: Path | None = Field(default=None, description="Shown to the broker, in PEM. Empty: none.")
    key_file: Path | None = Field(default=None, description="The private key of `certificate_file`.")
    alpn: str = Field(
        default="", pattern=r"^[ -~]{0,64}$", description="As `x-amzn-mqtt-ca`, where MQTT shares port 443."
    )
    by: Literal["id", "name", "tag"] = Field(default="id", description="What `{device}` is of a board.")
    devices: tuple[str, ...] = Field(
        default=(), max_length=1000, description="Boards that it may speak for and hear of, by id or name; `*`: all."
    )
    types: Words = Field(default=(), max_length=64, description="And boards of these types.")
    ins: tuple[MqttBridgeIn, ...] = Field(
        default=(), alias="in", max_length=64, description="What is taken, each as `[[mqtt.bridges.in]]`."
    )
    outs: tuple[MqttBridgeOut, ...] = Field(
        default=(), alias="out", max_length=64, description="What is told, each as `[[mqtt.bridges.out]]`."
    )
    per_second: float = Field(
        default=200, gt=0, le=10_000, description="Messages that are taken; what is more waits at the other broker."
    )
    max_payload_bytes: int = Field(
        default=16 * KIB, ge=64, le=64 * KIB, description="Of one message. Larger ones are dropped and counted."
    )
    max_waiting: int = Field(
        default=10_000, ge=1, le=1_000_000, description="Messages that wait for it. The oldest are dropped and counted."
    )
    session_expiry: Duration = Field(
        default=timedelta(days=7),
        ge=timedelta(minutes=1),
        le=timedelta(days=365),
        description="How long the other broker is asked to keep messages while this gateway is away (MQTT 5).",
    )
    keep_alive: Duration = Field(
        default=timedelta(seconds=60), ge=timedelta(seconds=5), le=timedelta(hours=1), description="Between two pings."
    )

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        what = f"'{url}' is no mqtts://HOST[:PORT]."
        parts = urlsplit(url)
        try:
            has_port = parts.port is None or parts.port > 0
        except ValueError:
            has_port = False
        if parts.scheme not in _SCHEMES or not parts.hostname or not has_port or parts.path.strip("/") or parts.query:
            raise ValueError(what)
        if "@" in parts.netloc or parts.fragment:
            raise ValueError("has no user name or password: they are username and password_file.")
        return url

    @model_validator(mode="after")
    def _fits_together(self) -> "MqttBridge":
        if not self.ins and not self.outs:
            raise ValueError("takes or tells nothing: it has neither in nor out.")
        if not self.devices and not self.types:
            raise ValueError('names no board in devices or types. devices = ["*"] are all.')
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together.")
        if self.password_file is not None and not self.username:
            raise ValueError("password_file needs username.")
        if not self.has_tls and (self.ca_file or self.certificate_file or self.alpn):
            raise ValueError("ca_file, certificate_file and alpn are for mqtts://.")
        if self.protocol == "3.1.1" and any(may_meet(o.topic, i.topic) for o in self.outs for i in self.ins):
            raise ValueError("would be told what it told itself: with 3.1.1 no out may fall under an in.")
        return self

    @property
    def has_tls(self) -> bool:
        return urlsplit(self.url).scheme == "mqtts"

    @property
    def place(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or _SCHEMES[parts.scheme]


def may_meet(told: str, taken: str) -> bool:
    """Whether a topic that is made of one may fall under the filter that is made of the other."""
    ours, theirs = told.split("/"), taken.split("/")
    for mine, wanted in zip(ours, theirs, strict=False):
        if wanted == "#":
            return True
        if wanted != "+" and not (CAPTURE.search(wanted) or CAPTURE.search(mine)) and mine != wanted:
            return False
    return len(ours) == len(theirs) or theirs[-1] == "#"


class MqttSettings(Section):
    enabled: bool = Field(
        default=False,
        description="Boards may connect by MQTT, each with its device id and API key: on `port`, and at `/mqtt`.",
    )
    port: int = Field(default=8883, ge=0, le=65535, description="Port for MQTT over TLS, while `enabled`. 0: none.")
    plain_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Port for MQTT without TLS, on loopback only; 1883 is the usual one. The same keys are asked for. "
        "0: none.",
    )
    max_packet_bytes: int = Field(
        default=128 * KIB, ge=8 * KIB, le=1024 * KIB, description="Of one packet, message and topic included."
    )
    session_expiry: Duration = Field(
        default=timedelta(days=7),
        ge=timedelta(0),
        le=timedelta(days=365),
        description="How long a board's session, and what waits for it, outlives its connection at most.",
    )
    max_queued: int = Field(
        default=1000, ge=1, le=10_000, description="Messages that wait for one session. More are dropped and counted."
    )
    max_retained: int = Field(default=256, ge=0, le=10_000, description="Retained messages of one device.")
    keep_messages: int = Field(
        default=1000, ge=1, description="Messages of one device that are kept, beside those that somebody waits for."
    )
    keep_for: Duration = Field(
        default=timedelta(days=7), gt=timedelta(0), description="Messages older than this are forgotten."
    )

    certificate_life: Duration = Field(
        default=timedelta(days=30),
        ge=timedelta(hours=1),
        le=timedelta(days=365),
        description="Of a certificate that a board gets by EST. It asks for the next one after two thirds.",
    )
    layouts: Annotated[tuple[MqttLayout, ...], BeforeValidator(_tables), Field(max_length=8)] = Field(
        default=(),
        description="Topics of other systems, each as `[[mqtt.layouts]]` (in the variable: JSON): docs/how-to/mqtt.md.",
    )
    bridges: Annotated[tuple[MqttBridge, ...], BeforeValidator(_tables), Field(max_length=16)] = Field(
        default=(),
        description="Brokers elsewhere, each as `[[mqtt.bridges]]` (in the variable: JSON): "
        "docs/how-to/bridge-a-broker.md.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "MqttSettings":
        if len({one.name for one in self.layouts}) < len(self.layouts):
            raise ValueError("two layouts have the same name.")
        if len({one.name for one in self.bridges}) < len(self.bridges):
            raise ValueError("two bridges have the same name.")
        if self.bridges and not self.enabled:
            raise ValueError("bridges need enabled = true. With port = 0 no board comes in directly.")
        if self.plain_port and self.plain_port == self.port:
            raise ValueError("plain_port and port are the same.")
        return self
