"""The settings of MQTT: whether boards may come by it, and what is kept for them."""

from datetime import timedelta

from pydantic import Field, model_validator

from entobot.config_types import Duration, Section

KIB = 1024


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

    @model_validator(mode="after")
    def _fits_together(self) -> "MqttSettings":
        if self.plain_port and self.plain_port == self.port:
            raise ValueError("plain_port and port are the same.")
        return self
