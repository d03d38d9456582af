"""The settings of agents that run outside the gateway and answer through it."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from entobot.config_types import Duration, Section, Words
from entobot.core.networks import Networks
from entobot.core.permissions import Role

MAX_BRIDGES = 20
RESERVED = frozenset({"auto", "clock", "echo", "entobot", "files", "llm", "none", "note"})
"""Names of the gateway's own agents and tools."""
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_OURS = frozenset(
    {"a2a-version", "accept", "accept-encoding", "connection", "content-length", "content-type", "host", "te"}
    | {"transfer-encoding", "upgrade"}
)


def _tables(value: object) -> object:
    """Variables are text: a list of tables is written as JSON there."""
    try:
        return json.loads(value or "[]") if isinstance(value, str) else value
    except ValueError:
        raise ValueError("is a list of tables, in a variable as JSON.") from None


def _agent_name(name: str) -> str:
    if not _NAME.fullmatch(name) or name in RESERVED:
        taken = ", ".join(sorted(RESERVED))
        raise ValueError(f"'{name}' is no name: lower-case letters, digits and '-', and none of {taken}.")
    return name


def _variables(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not _VARIABLE.fullmatch(name) or name.upper().startswith("ENTOBOT_"):
            raise ValueError(f"'{name}' is no variable that may be handed on.")
    return names


class _Bridge(Section):
    name: Annotated[str, AfterValidator(_agent_name)] = Field(description="How conversations call it.")
    roles: tuple[Role, ...] = Field(
        default=(Role.OWNER,), min_length=1, description="Whose messages it is given: roles of people."
    )


class AcpBridge(_Bridge):
    """An agent that speaks the Agent Client Protocol on its standard input and output."""

    kind: Literal["acp"]
    command: Annotated[tuple[str, ...], Field(min_length=1, max_length=64)] = Field(
        description="The program and its arguments. No shell reads them."
    )
    folder: Path | None = Field(
        default=None, description="Where it works. Empty: a folder of its own in the data folder."
    )
    variables: Annotated[Words, AfterValidator(_variables)] = Field(
        default=(), description="Variables of the gateway that it gets as well, by name: its keys, for one."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "AcpBridge":
        if "/" in self.command[0] and not self.command[0].startswith("/"):
            raise ValueError("command begins with a name that is in PATH, or with an absolute path.")
        if not self.command[0].strip() or any("\x00" in word for word in self.command):
            raise ValueError("command names no program.")
        if self.folder is not None and not self.folder.is_absolute():
            raise ValueError("folder is an absolute path.")
        return self


def _url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.fragment:
        raise ValueError(f"'{url}' is no https:// URL, as in https://agent.example.org/chat.")
    return url


def _networks(values: tuple[str, ...]) -> tuple[str, ...]:
    Networks(values)
    return values


def _header(name: str) -> str:
    if not _HEADER.fullmatch(name) or name.lower() in _OURS:
        raise ValueError(f"'{name}' is no header for a key, as in X-API-Key.")
    return name


class OpenAiBridge(_Bridge):
    """A server with an OpenAI-compatible chat endpoint. It is offered the gateway's tools, which ask as ever."""

    kind: Literal["openai"]
    base_url: Annotated[str, AfterValidator(_url)] = Field(description="As in `http://127.0.0.1:11434/v1`.")
    model: str = Field(default="", max_length=200, description="Empty: the first that the server lists.")
    key_file: Path | None = Field(default=None, description="File with its key. Empty: none.")
    instructions: str = Field(default="", description="Added to the system prompt, in place of `agent.instructions`.")


class WebhookBridge(_Bridge):
    """A program behind a URL: it is posted the conversation, signed, and answers with a text."""

    kind: Literal["webhook"]
    url: Annotated[str, AfterValidator(_url)] = Field(description="Where the conversation is posted to.")
    secret_file: Path = Field(description="File with the `whsec_…` that signs what is posted.")
    within: Duration = Field(
        default=timedelta(minutes=1),
        gt=timedelta(0),
        le=timedelta(minutes=10),
        description="How long it may take to answer.",
    )
    private_networks: Annotated[Words, AfterValidator(_networks)] = Field(
        default=(),
        description="Networks in which it may lie although they are not public. Loopback in it allows plain `http://` "
        "there.",
    )


class _Server(_Bridge):
    """An agent that is a server, asked in a protocol of its kind."""

    url: Annotated[str, AfterValidator(_url)]
    key_file: Path | None = Field(default=None, description="File with its key. Empty: none.")
    key_header: Annotated[str, AfterValidator(_header)] = Field(
        default="Authorization", description="Where the key is sent. In `Authorization` as a Bearer token."
    )
    ca_file: Path | None = Field(
        default=None, description="The authority of its certificate, in PEM, and no other. Empty: those of the system."
    )
    within: Duration = Field(
        default=timedelta(minutes=1),
        gt=timedelta(0),
        le=timedelta(minutes=10),
        description="How long it may be silent.",
    )
    private_networks: Annotated[Words, AfterValidator(_networks)] = Field(
        default=(),
        description="Networks in which it may lie although they are not public. Loopback in it allows plain `http://` "
        "there.",
    )


class AgUiBridge(_Server):
    """A server that speaks AG-UI 1.0."""

    kind: Literal["ag-ui"]
    url: Annotated[str, AfterValidator(_url)] = Field(description="Where a `RunAgentInput` is posted to.")
    sends: Literal["conversation", "message"] = Field(
        default="conversation",
        description="What it is sent: all that was said, or the newest message alone, for servers that keep threads.",
    )


class A2aBridge(_Server):
    """An agent that speaks A2A 1.0 over JSON-RPC."""

    kind: Literal["a2a"]
    url: Annotated[str, AfterValidator(_url)] = Field(
        description="Its agent card, or the address below which `/.well-known/agent-card.json` is."
    )


Bridge = Annotated[A2aBridge | AcpBridge | AgUiBridge | OpenAiBridge | WebhookBridge, Field(discriminator="kind")]


def _different(bridges: tuple[Bridge, ...]) -> tuple[Bridge, ...]:
    names = [bridge.name for bridge in bridges]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two of them are called '{name}'.")
    return bridges


Bridges = Annotated[
    tuple[Bridge, ...], BeforeValidator(_tables), AfterValidator(_different), Field(max_length=MAX_BRIDGES)
]
