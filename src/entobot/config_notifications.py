"""The settings of notifications: what may leave the gateway, how much, and through which servers."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from entobot.config_types import LOOPBACK, Duration, Section, Words, is_mail_address
from entobot.core.networks import Networks


def _networks(values: tuple[str, ...]) -> tuple[str, ...]:
    Networks(values)
    return values


def _contact(text: str) -> str:
    if text and not (text.startswith("https://") or (text.startswith("mailto:") and is_mail_address(text[7:]))):
        raise ValueError("is a mailto: or https:// address, as in mailto:ops@example.org.")
    return text


class NotificationSettings(Section):
    content: bool = Field(
        default=False,
        description="Whether title and text may leave the gateway, where a person's own rules allow it too. "
        "Otherwise pushes and mails only say what kind of news there is.",
    )
    contact: Annotated[str, AfterValidator(_contact)] = Field(
        default="",
        description="Whom push services may write to: `mailto:…` or `https://…`. Empty: `gateway.public_url`.",
    )
    private_networks: Annotated[Words, AfterValidator(_networks)] = Field(
        default=(),
        description="Networks behind which push services may be reached although they are not public, as for a server "
        "of yours. Loopback in it allows plain `http://` there.",
    )
    authority: Path | None = Field(
        default=None, description="PEM of the authority to trust for such servers, beside none. Empty: the system's."
    )
    smtp_host: str = Field(default="", description="The SMTP server for notifications by e-mail. Empty: none are sent.")
    smtp_port: int = Field(default=0, ge=0, le=65535, description="0: 587 with `starttls`, 465 with `tls`, else 25.")
    smtp_security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="`none` works on loopback only."
    )
    smtp_user: str = Field(default="", description="Login at the SMTP server. Empty: none.")
    smtp_password_file: Path | None = Field(default=None, description="File with its password.")
    smtp_sender: str = Field(default="", description="The address that mails come from.")
    smtp_authority: Path | None = Field(
        default=None, description="PEM of the authority to trust for it. Empty: the system's."
    )
    per_sender_per_hour: int = Field(default=300, ge=1, description="Notifications of one device or session.")
    per_person_per_hour: int = Field(default=1000, ge=1, description="What one person is sent by all of them.")
    keep_for: Duration = Field(
        default=timedelta(days=30), ge=timedelta(days=1), description="How long notifications that ended are kept."
    )

    @property
    def port(self) -> int:
        """Of the SMTP server."""
        return self.smtp_port or {"starttls": 587, "tls": 465, "none": 25}[self.smtp_security]

    @model_validator(mode="after")
    def _fits_together(self) -> "NotificationSettings":
        if not self.smtp_host:
            return self
        if not is_mail_address(self.smtp_sender):
            raise ValueError("smtp_host needs smtp_sender, an e-mail address, as in gate@example.org.")
        if self.smtp_security == "none" and self.smtp_host not in LOOPBACK:
            raise ValueError("smtp_security 'none' is for this machine only.")
        if bool(self.smtp_user) != (self.smtp_password_file is not None):
            raise ValueError("smtp_user and smtp_password_file belong together.")
        return self
