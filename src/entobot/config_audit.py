"""The settings of the audit log: when checkpoints are signed, and who receives what."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from entobot.config_types import LOOPBACK, Duration, Section


def _tables(value: object) -> object:
    """Variables are text: a list of tables is written as JSON there."""
    try:
        return json.loads(value or "[]") if isinstance(value, str) else value
    except ValueError:
        raise ValueError("is a list of tables, in a variable as JSON.") from None


class AuditSink(Section):
    """One receiver of the audit log."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$", description="Of your choice; names its place in the log.")
    format: Literal["checkpoint", "jsonl", "ocsf", "syslog"] = Field(description="What it is sent.")
    url: str = Field(description="`file:///…`, `https://…`, `http://…` on loopback; for `syslog` `tls://host:6514`.")
    personal: bool = Field(default=False, description="Send names and addresses too; they can be erased here only.")
    token_file: Path | None = Field(default=None, description="File with a bearer token, for `https://`.")
    authority: Path | None = Field(default=None, description="PEM of the authority to trust. Empty: the system's.")
    certificate: Path | None = Field(default=None, description="PEM of a client certificate, where one is asked for.")
    key: Path | None = Field(default=None, description="PEM of its key.")

    @model_validator(mode="after")
    def _fits_together(self) -> "AuditSink":
        parts = urlsplit(self.url)
        wanted = ("tls",) if self.format == "syslog" else ("file", "http", "https")
        if parts.scheme not in wanted:
            raise ValueError(f"url: for {self.format} it begins with {' or '.join(f'{one}://' for one in wanted)}.")
        if parts.scheme == "file":
            if parts.netloc or not parts.path.startswith("/") or parts.path.endswith("/"):
                raise ValueError("url: a file is named from the root, as in file:///var/log/entobot/audit.jsonl.")
        elif not parts.hostname or "@" in parts.netloc or parts.fragment or len(self.url.split()) != 1:
            raise ValueError("url: names a host, and no user or password: those go into token_file.")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ValueError("url: plain http:// is for this machine only.")
        if self.token_file is not None and parts.scheme not in ("http", "https"):
            raise ValueError("token_file is for https://.")
        has_tls = parts.scheme in ("https", "tls")
        if (self.authority or self.certificate or self.key) and not has_tls:
            raise ValueError("authority, certificate and key are for https:// and tls://.")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together.")
        return self


class AuditSettings(Section):
    checkpoint_every: Duration = Field(
        default=timedelta(minutes=10),
        ge=timedelta(seconds=1),
        description="How often a checkpoint of the log is signed, where something was written.",
    )
    segment_entries: int = Field(
        default=100_000, ge=100, description="A segment of the log is written to `audit/` after so many entries."
    )
    segment_age: Duration = Field(
        default=timedelta(days=30),
        ge=timedelta(minutes=1),
        description="Or when its first entry is so old.",
    )
    sinks: Annotated[tuple[AuditSink, ...], BeforeValidator(_tables)] = Field(
        default=(),
        description="Receivers of the log, each as `[[audit.sinks]]` (in the variable: JSON): docs/how-to/audit.md.",
    )

    @model_validator(mode="after")
    def _are_told_apart(self) -> "AuditSettings":
        if len({one.name for one in self.sinks}) != len(self.sinks):
            raise ValueError("sinks: two have the same name.")
        return self
