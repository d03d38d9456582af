"""`entobot config`: the settings as they would be used, and where each comes from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entobot.app.certificate import missing_for_acme
from entobot.app.stored import read_offline
from entobot.config import Settings
from entobot.core.errors import StartupRefused
from entobot.home import Home
from entobot.settings.model import Kind, fields
from entobot.settings.planning import usable
from entobot.sources import Layers, Source, load_layers, system_environment, variable_of


def load_effective(home: Path, environment: Mapping[str, str]) -> Settings:
    """As a gateway would start with, what is stored included. Blocks. Raises StartupRefused."""
    return layers_of(home, environment)[0].settings()


def layers_of(home: Path, environment: Mapping[str, str]) -> tuple[Layers, dict[str, str]]:
    """What each source says, and why stored values cannot be used. Blocks. Raises StartupRefused."""
    layers = load_layers(home, environment)
    return usable(layers, read_offline(Home(home), layers.settings().storage))


def describe_settings(
    home: Path, environment: Mapping[str, str] | None = None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows `{key, value, default, source, description}`, and what of the stored values they leave out, in sentences.

    Raises StartupRefused when file or environment are not right.
    """
    variables = system_environment() if environment is None else environment
    try:
        layers, refused = layers_of(home, variables)
        left_out = [f"{key} is stored, but {why}" for key, why in refused.items()]
    except StartupRefused as unread:
        layers = load_layers(home, variables)
        left_out = [f"What is stored is left out: {unread}"]
    settings = layers.settings()
    rows: list[dict[str, Any]] = []
    for at in fields().values():
        is_secret = at.kind is Kind.SECRET
        source = layers.source(at.section, at.name)
        rows.append(
            {
                "key": at.key,
                "value": ("(set)" if at.is_set(settings) else "") if is_secret else at.of(settings),
                "default": "" if is_secret else at.default,
                "source": variable_of(at.section, at.name) if source is Source.ENVIRONMENT else _place(source),
                "description": at.description,
            }
        )
    return rows, left_out


def _place(source: Source) -> str:
    return "entobot.toml" if source is Source.FILE else str(source)


def check_settings(home: Path) -> list[str]:
    """What would keep the gateway from starting; empty when nothing would."""
    try:
        settings = load_layers(home, system_environment()).settings()
    except StartupRefused as refusal:
        return [str(refusal)]
    problems: list[str] = []
    if "*" in settings.gateway.allowed_origins:
        problems.append("gateway.allowed_origins: name each origin; '*' would let every page in.")
    if settings.tls.mode == "given":
        for name in ("certificate", "key"):
            path: Path | None = getattr(settings.tls, name)
            if path is None or not path.is_file():
                problems.append(f"tls.{name}: {path or 'not set'} is no file.")
    if settings.tls.mode == "acme":
        problems += missing_for_acme(settings)
    return problems
