"""The settings of files: how much may be kept, and of which kinds."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from entobot.config_types import Section, Words

_MEDIA_TYPE = re.compile(r"[a-z]+/([a-z0-9][a-z0-9.+-]*|\*)")
MIB = 1024 * 1024


def _media_types(values: tuple[str, ...]) -> tuple[str, ...]:
    for text in values:
        if not _MEDIA_TYPE.fullmatch(text):
            raise ValueError(f"'{text}' is no media type in lower case, as in image/png or image/*.")
    return values


class FileSettings(Section):
    max_bytes: int = Field(
        default=25 * MIB, ge=0, le=1024 * MIB, description="Of one file. 0: no files can be attached."
    )
    per_person_bytes: int = Field(default=1024 * MIB, ge=0, description="Of all files of one person.")
    total_bytes: int = Field(default=10 * 1024 * MIB, ge=0, description="Of all files of this gateway.")
    keep_free_bytes: int = Field(
        default=256 * MIB,
        ge=0,
        description="On the disk of the data folder: with less than that beside it no file is taken.",
    )
    types: Annotated[Words, AfterValidator(_media_types)] = Field(
        default=(),
        description="Kinds of content that are taken, as in `image/* text/plain`. Empty: every kind.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "FileSettings":
        if self.max_bytes > min(self.per_person_bytes, self.total_bytes):
            raise ValueError("max_bytes is more than per_person_bytes or total_bytes allows.")
        return self
