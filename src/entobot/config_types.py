"""What sections of the settings are made of."""

from datetime import timedelta
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
