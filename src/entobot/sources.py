"""Where settings come from, and the one place that decides which source wins: see `Layers`.

They are read from `entobot.toml` in the data folder, from what was stored while the gateway ran, and from
`ENTOBOT_<SECTION>__<KEY>` in the environment.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from entobot.config import ENVIRONMENT_PREFIX, FILE_NAME, Settings
from entobot.core.errors import StartupRefused


def system_environment() -> Mapping[str, str]:
    """The process environment; read here only."""
    return os.environ  # noqa: TID251  the one place that reads the environment


Tree = Mapping[str, Mapping[str, Any]]
"""Values by section and key, as they were written: not validated."""
NOTHING: Tree = MappingProxyType({})


def _nothing() -> Tree:
    return NOTHING


class Source(StrEnum):
    """Where a value comes from; each is beaten by the next."""

    DEFAULT = "default"
    FILE = "file"
    STORED = "stored"
    ENVIRONMENT = "environment"
    COMMAND = "command"


@dataclass(frozen=True, slots=True)
class Layers:
    """What each source says. The precedence of settings is decided here and nowhere else.

    A variable wins even when it is empty.
    """

    file: Tree = field(default_factory=_nothing)
    stored: Tree = field(default_factory=_nothing)
    environment: Tree = field(default_factory=_nothing)
    command: Tree = field(default_factory=_nothing)

    def settings(self) -> "Settings":
        """Raises ValidationError."""
        tree: dict[str, dict[str, Any]] = {}
        for _, layer in self._from_weakest():
            for section, values in layer.items():
                tree.setdefault(section, {}).update(values)
        return Settings.model_validate(tree)

    def source(self, section: str, key: str) -> Source:
        found = Source.DEFAULT
        for source, layer in self._from_weakest():
            if key in layer.get(section, {}):
                found = source
        return found

    def pin(self, section: str, key: str) -> str | None:
        """What beats everything stored, in words for a person; None where nothing does."""
        return {
            Source.ENVIRONMENT: f"the environment variable {variable_of(section, key)}",
            Source.COMMAND: "an option of 'entobot up'",
        }.get(self.source(section, key))

    def with_stored(self, stored: Tree) -> "Layers":
        return replace(self, stored=stored)

    def _from_weakest(self) -> tuple[tuple[Source, Tree], ...]:
        return (
            (Source.FILE, self.file),
            (Source.STORED, self.stored),
            (Source.ENVIRONMENT, self.environment),
            (Source.COMMAND, self.command),
        )


def variable_of(section: str, key: str) -> str:
    return f"{ENVIRONMENT_PREFIX}{section}__{key}".upper()


def load_layers(home: Path, environment: Mapping[str, str], overrides: Tree = NOTHING) -> Layers:
    """Everything but what is stored, which is in the database. Raises StartupRefused naming what is wrong."""
    layers = Layers(file=_read_file(home / FILE_NAME), environment=_from_environment(environment), command=overrides)
    checked(layers)
    return layers


def load(home: Path, environment: Mapping[str, str], overrides: Tree = NOTHING) -> Settings:
    """The settings for a data folder without what is stored. Raises StartupRefused naming the key that is wrong."""
    return checked(load_layers(home, environment, overrides))


def checked(layers: Layers) -> Settings:
    """Raises StartupRefused naming the key that is wrong."""
    try:
        return layers.settings()
    except ValidationError as error:
        raise StartupRefused(_explain(error)) from None


def _read_file(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise StartupRefused(f"{path} cannot be read: {error}") from None
    for section, values in tree.items():
        if not isinstance(values, dict):
            raise StartupRefused(f"{path}: '{section}' stands outside a section. Put it under one, e.g. [gateway].")
    return tree


def _from_environment(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    tree: dict[str, dict[str, Any]] = {}
    for name, value in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX) or name == "ENTOBOT_HOME":
            continue
        section, separator, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        if not separator:
            raise StartupRefused(f"The variable {name} is not known. Settings are {ENVIRONMENT_PREFIX}SECTION__KEY.")
        tree.setdefault(section, {})[key] = value
    return tree


def _explain(error: ValidationError) -> str:
    lines = ["The settings are not right:"]
    for item in error.errors(include_url=False, include_input=False):
        place = ".".join(str(part) for part in item["loc"])
        text = "is not a known setting" if item["type"] == "extra_forbidden" else item["msg"]
        lines.append(f"  {place}: {text}" if place else f"  {text}")
    lines.append("See 'entobot config show' for every setting and its default.")
    return "\n".join(lines)
