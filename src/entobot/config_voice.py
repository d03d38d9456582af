"""The settings of voice: who turns recordings into text, and what is kept of them."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from entobot.config_types import LOOPBACK, Duration, Section, Words

FILE_MARK = "{file}"


def _service(url: str) -> str:
    if not url:
        return url
    parts = urlsplit(url)
    is_private = parts.scheme == "http" and parts.hostname in LOOPBACK
    if not parts.hostname or not (parts.scheme == "https" or is_private):
        raise ValueError("is an https:// URL, or http:// on this machine, as in https://api.openai.com/v1.")
    if "@" in parts.netloc or parts.query or parts.fragment or len(url.split()) != 1:
        raise ValueError("holds no credentials and no parameters.")
    return url.rstrip("/")


class VoiceSettings(Section):
    backend: Literal["none", "http", "command"] = Field(
        default="none",
        description="Who transcribes: `http` asks the service at `url`, `command` runs a program of this machine. "
        "`none`: phones show no microphone.",
    )
    url: Annotated[str, AfterValidator(_service)] = Field(
        default="https://api.openai.com/v1",
        description="For `http`: a service that has OpenAI's `/audio/transcriptions` below this address.",
    )
    model: str = Field(default="whisper-1", description="For `http`: the model's name there.")
    api_key: SecretStr = Field(
        default=SecretStr(""),
        description="For `http`: its key. Empty: `OPENAI_API_KEY`, for OpenAI's own address only.",
    )
    api_key_file: Path | None = Field(default=None, description="File with that key, read when it is used.")
    command: Words = Field(
        default=(),
        description="For `command`: program and arguments, run without a shell. `{file}` stands for the recording; "
        "without it the recording comes on standard input. What it prints is the text.",
    )
    language: str = Field(
        default="", max_length=35, description="For `http`: language of the recordings, as in `de`. Empty: found out."
    )
    timeout: Duration = Field(
        default=timedelta(seconds=60), gt=timedelta(0), le=timedelta(minutes=10), description="For one recording."
    )
    max_bytes: int = Field(
        default=8 * 1024 * 1024, ge=1, description="Of one recording; `files.max_bytes` holds beside it."
    )
    max_length: Duration = Field(
        default=timedelta(minutes=2),
        ge=timedelta(seconds=5),
        le=timedelta(minutes=30),
        description="After which a phone ends a recording.",
    )
    keep_audio: bool = Field(
        default=False, description="Whether the recording goes with the message. Otherwise it is deleted with the text."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "VoiceSettings":
        if self.backend == "command" and not self.command:
            raise ValueError("backend 'command' needs command, the program and its arguments.")
        if self.backend == "http" and not self.url:
            raise ValueError("backend 'http' needs url.")
        return self
