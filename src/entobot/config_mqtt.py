"""The settings of MQTT: whether boards may come by it, and what is kept for them."""

import json
import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from entobot.config_types import Duration, Section

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

    @model_validator(mode="after")
    def _fits_together(self) -> "MqttSettings":
        if len({one.name for one in self.layouts}) < len(self.layouts):
            raise ValueError("two layouts have the same name.")
        if self.plain_port and self.plain_port == self.port:
            raise ValueError("plain_port and port are the same.")
        return self
