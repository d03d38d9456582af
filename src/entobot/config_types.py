"""What sections of the settings are made of."""

from datetime import timedelta
from email.utils import parseaddr
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _seconds(value: object) -> object:
    """Variables are text: bare digits are seconds there, as a bare number is in the file."""
    return float(value) if isinstance(value, str) and value.replace(".", "", 1).isdigit() else value


def _words(value: object) -> object:
    """Variables are text: a list is written with commas or spaces there."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


Duration = Annotated[timedelta, BeforeValidator(_seconds)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def is_mail_address(text: str) -> bool:
    """As in `ops@example.org`, alone and without a name."""
    local, _, domain = text.rpartition("@")
    return (
        text.isascii()
        and text.isprintable()
        and parseaddr(text) == ("", text)
        and bool(local and domain)
        and not set(text) & set(' ,;:<>()[]"\\')
    )
