"""The settings of callbacks: where answers may be posted to, and what signs them."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from entobot.config_types import LOOPBACK, Section, Words
from entobot.core.networks import Networks


def _networks(values: tuple[str, ...]) -> tuple[str, ...]:
    Networks(values)
    return values


def _urls(values: tuple[str, ...]) -> tuple[str, ...]:
    for url in values:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
            raise ValueError(f"'{url}' is no beginning of an https:// URL, as in https://ci.example.org/hooks/.")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ValueError(f"'{url}': plain http:// is for this machine only.")
        if not parts.path.endswith("/") or parts.fragment:
            raise ValueError(f"'{url}' ends in '/': it is the folder of the URLs that may be named.")
    return values


class CallbackSettings(Section):
    urls: Annotated[Words, AfterValidator(_urls)] = Field(
        default=(),
        description="Folders of the URLs that programs may have answers posted to, as in "
        "`https://ci.example.org/hooks/`. Empty: none.",
    )
    secret_file: Path | None = Field(default=None, description="File with the `whsec_…` that signs what is posted.")
    private_networks: Annotated[Words, AfterValidator(_networks)] = Field(
        default=(),
        description="Networks in which these URLs may lie although they are not public. Loopback in it allows plain "
        "`http://` there.",
    )
    authority: Path | None = Field(default=None, description="PEM of the authority to trust. Empty: the system's.")

    @model_validator(mode="after")
    def _fits_together(self) -> "CallbackSettings":
        if self.urls and self.secret_file is None:
            raise ValueError("urls need secret_file, so that their receivers can tell the gateway from others.")
        return self
