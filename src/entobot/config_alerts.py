"""The settings of alerts: which rules, and who is told."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from entobot.config_types import LOOPBACK, Duration, Section, Words, is_mail_address
from entobot.core.alert_rules import RuleId, Severity


def _tables(value: object) -> object:
    """Variables are text: a list of tables is written as JSON there."""
    try:
        return json.loads(value or "[]") if isinstance(value, str) else value
    except ValueError:
        raise ValueError("is a list of tables, in a variable as JSON.") from None


class AlertRule(Section):
    """A change of one rule: what is left out stays as the table of rules has it."""

    id: RuleId = Field(description="Which rule.")
    enabled: bool = Field(default=True, description="Whether it is looked at.")
    threshold: float | None = Field(default=None, ge=0, description="Where it fires.")
    window: Duration | None = Field(
        default=None,
        ge=timedelta(0),
        le=timedelta(days=30),
        description="Within which is counted, or for how long it must hold.",
    )

    @property
    def name(self) -> str:
        return self.id


class AlertChannel(Section):
    """Somebody who is told."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$", description="Of your choice.")
    kind: Literal["email", "notification", "webhook"] = Field(
        description="How. `notification`: everybody who may see alerts, each by their own rules."
    )
    severity: Severity = Field(default=Severity.WARNING, description="From which severity on.")
    per_hour: int = Field(
        default=12, ge=1, le=3600, description="Messages in an hour at most; the last says how many more."
    )
    url: str = Field(default="", description="For `webhook`: `https://…`, or `http://…` on loopback.")
    secret_file: Path | None = Field(default=None, description="For `webhook`: file with the `whsec_…` that signs.")
    host: str = Field(default="", description="For `email`: the SMTP server.")
    port: int = Field(default=0, ge=0, le=65535, description="0: 587 with `starttls`, 465 with `tls`, else 25.")
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="For `email`. `none` works on loopback only."
    )
    user: str = Field(default="", description="Login at the SMTP server. Empty: none.")
    password_file: Path | None = Field(default=None, description="File with its password.")
    sender: str = Field(default="", description="For `email`: the address that it comes from.")
    to: Words = Field(default=(), description="For `email`: the addresses that it goes to.")
    authority: Path | None = Field(default=None, description="PEM of the authority to trust. Empty: the system's.")

    @property
    def smtp_port(self) -> int:
        return self.port or {"starttls": 587, "tls": 465, "none": 25}[self.security]

    @model_validator(mode="after")
    def _fits_together(self) -> "AlertChannel":
        if self.kind == "webhook":
            self._check_webhook()
        elif self.kind == "email":
            self._check_email()
        return self

    def _check_webhook(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or len(self.url.split()) != 1:
            raise ValueError(f"{self.name}: url is an https:// URL.")
        if "@" in parts.netloc or parts.fragment:
            raise ValueError(f"{self.name}: url names no user or password: a webhook is signed by secret_file.")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ValueError(f"{self.name}: plain http:// is for this machine only.")
        if self.secret_file is None:
            raise ValueError(f"{self.name}: a webhook needs secret_file, so that its receiver can tell it from others.")

    def _check_email(self) -> None:
        if not self.host or not self.sender or not self.to:
            raise ValueError(f"{self.name}: e-mail needs host, sender and to.")
        for address in (self.sender, *self.to):
            if not is_mail_address(address):
                raise ValueError(f"{self.name}: '{address}' is no e-mail address, as in ops@example.org.")
        if self.security == "none" and self.host not in LOOPBACK:
            raise ValueError(f"{self.name}: security 'none' is for this machine only.")
        if bool(self.user) != (self.password_file is not None):
            raise ValueError(f"{self.name}: user and password_file belong together.")


class AlertsSettings(Section):
    every: Duration = Field(
        default=timedelta(seconds=10),
        ge=timedelta(milliseconds=100),
        le=timedelta(minutes=5),
        description="How often the rules are looked at.",
    )
    verify_every: Duration = Field(
        default=timedelta(minutes=5),
        ge=timedelta(0),
        description="How often new entries of the audit log are verified, and the whole log once a day. 0: never.",
    )
    keep_for: Duration = Field(
        default=timedelta(days=90), ge=timedelta(days=1), description="How long alerts that are over stay in the list."
    )
    rules: Annotated[tuple[AlertRule, ...], BeforeValidator(_tables)] = Field(
        default=(),
        description="Changes of rules, each as `[[alerts.rules]]` (in the variable: JSON): docs/how-to/alerts.md.",
    )
    channels: Annotated[tuple[AlertChannel, ...], BeforeValidator(_tables)] = Field(
        default=(),
        description="Who is told, each as `[[alerts.channels]]` (in the variable: JSON): docs/how-to/alerts.md.",
    )

    @model_validator(mode="after")
    def _are_told_apart(self) -> "AlertsSettings":
        if len({one.name for one in self.channels}) != len(self.channels):
            raise ValueError("channels: two have the same name.")
        if len({one.id for one in self.rules}) != len(self.rules):
            raise ValueError("rules: two change the same rule.")
        return self
