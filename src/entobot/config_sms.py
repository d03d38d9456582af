"""The settings of SMS: by whom it is sent, to which countries, how often, and for how much money."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from entobot.config_types import LOOPBACK, Duration, Section, Words

_ACCOUNT_SID = re.compile(r"AC[0-9a-f]{32}")
_SENDERS = re.compile(r"\+[1-9][0-9]{6,14}|MG[0-9a-f]{32}|[A-Za-z0-9 ]{1,11}|")
_AWS_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]")


def _countries(values: tuple[str, ...]) -> tuple[str, ...]:
    for text in values:
        if not re.fullmatch("[A-Z]{2}", text):
            raise ValueError(f"'{text}' is no country of two letters, as in US or DE.")
    return values


def _endpoint(url: str) -> str:
    parts = urlsplit(url)
    if not url:
        return url
    if parts.scheme not in ("http", "https") or not parts.hostname or len(url.split()) != 1:
        raise ValueError("is an https:// URL.")
    if "@" in parts.netloc or parts.fragment or parts.query:
        raise ValueError("names no user, password or parameters.")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ValueError("plain http:// is for this machine only.")
    return url.rstrip("/")


Endpoint = Annotated[str, AfterValidator(_endpoint)]


class SmsSettings(Section):
    provider: Literal["", "console", "sns", "twilio", "webhook"] = Field(
        default="", description="Who sends SMS. Empty: nobody. `console`, for development, sends nothing and says so."
    )
    countries: Annotated[Words, AfterValidator(_countries)] = Field(
        default=(), description="Countries that may be written to, as in `US, CA`. Must be given, but for `console`."
    )
    account: str = Field(default="", description="For `twilio` the Account SID, for `sns` the access key id.")
    secret_file: Path | None = Field(
        default=None,
        description="File with the secret, read at each use: Twilio's auth token, the AWS secret access key, the `whsec_…` of a webhook.",
    )
    sender: str = Field(
        default="",
        description="What it comes from: for `twilio` a number or a Messaging Service (`MG…`), for `sns` a name or nothing.",
    )
    region: str = Field(default="", description="For `sns`: the AWS region.")
    url: Endpoint = Field(
        default="", description="For `webhook`: where messages are posted. For the others another address than usual."
    )
    authority: Path | None = Field(default=None, description="PEM of the authority to trust. Empty: the system's.")
    receipts_origin: Endpoint = Field(
        default="",
        description="Where the provider reaches this gateway with its receipts. Empty: `gateway.public_url`, where its host is not a private one.",
    )
    price: float = Field(
        default=0.05, ge=0, le=100, description="What one part of a message costs, for the sum of a day."
    )
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$", description="Of `price`; for people.")
    max_cost_per_day: float = Field(default=5, ge=0, le=1_000_000, description="What SMS of 24 hours may cost in all.")
    per_day: int = Field(default=100, ge=1, le=1_000_000, description="Messages in 24 hours in all.")
    per_number_per_hour: int = Field(default=3, ge=1, le=100, description="Messages to one number.")
    per_person_per_hour: int = Field(default=20, ge=1, le=100_000, description="Messages that one person has sent.")
    commands: bool = Field(
        default=False,
        description="Do what people ask for by SMS from a number that they have confirmed. Numbers can be forged.",
    )
    approvals: bool = Field(
        default=False,
        description="Decide on calls of low risk by a code in an SMS, beside `commands`. It proves no person and no "
        "device, and is audited as weak: docs/how-to/invite-by-sms.md.",
    )
    answers_per_hour: int = Field(default=10, ge=1, le=100, description="Answers to one number that writes here.")
    resend_after: Duration = Field(
        default=timedelta(minutes=1),
        ge=timedelta(seconds=1),
        le=timedelta(minutes=15),
        description="How long to wait before an invite may be sent again.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "SmsSettings":
        if self.approvals and not self.commands:
            raise ValueError("approvals needs commands: without them no answer is read.")
        if self.provider in ("", "console"):
            return self
        if not self.countries:
            raise ValueError("countries must name those that may be written to: fraud with SMS goes to all others.")
        if self.secret_file is None:
            raise ValueError(f"secret_file must be given for {self.provider}.")
        if not _SENDERS.fullmatch(self.sender):
            raise ValueError("sender is a number as in +14155550123, a Messaging Service, or a name of 11 characters.")
        if self.provider == "twilio" and (not _ACCOUNT_SID.fullmatch(self.account) or not self.sender):
            raise ValueError("twilio needs account (the Account SID, AC…) and sender.")
        if self.provider == "sns" and (not self.account.isalnum() or not _AWS_REGION.fullmatch(self.region)):
            raise ValueError("sns needs account (the access key id) and region, as in eu-central-1.")
        if self.provider == "webhook" and not self.url:
            raise ValueError("webhook needs url.")
        return self
