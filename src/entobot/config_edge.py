"""The settings of the edge: a nats-server that takes boards in the gateway's place."""

from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from entobot.config_types import Duration, Section


class EdgeSettings(Section):
    """A nats-server whose MQTT listener takes boards in the gateway's place."""

    url: str = Field(
        default="", description="`tls://HOST[:4222]`, or `nats://…` on this machine. Empty: there is none."
    )
    ca_file: Path | None = Field(
        default=None, description="The authority of its certificate, in PEM. Empty: those of the system."
    )
    user: str = Field(default="gateway", min_length=1, max_length=64, description="Of the boards' account.")
    password_file: Path | None = Field(default=None, description="File with its password.")
    system_user: str = Field(default="system", min_length=1, max_length=64, description="Of the system account.")
    system_password_file: Path | None = Field(default=None, description="File with its password.")
    account: str = Field(default="BOARDS", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="That boards are put into.")
    ask_again: Duration = Field(
        default=timedelta(hours=1),
        ge=timedelta(minutes=1),
        le=timedelta(days=1),
        description="A board is asked for its key again so often, by ending its connection.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "EdgeSettings":
        if not self.url:
            return self
        parts = urlsplit(self.url)
        try:
            is_right = parts.scheme in ("nats", "tls") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            is_right = False
        if not is_right or "@" in parts.netloc or parts.path.strip("/"):
            raise ValueError("url is tls://HOST[:PORT] without user name and password.")
        if parts.scheme == "nats" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError("url begins with tls://: boards' keys travel between the server and the gateway.")
        if self.password_file is None or self.system_password_file is None:
            raise ValueError("password_file and system_password_file are needed.")
        return self
