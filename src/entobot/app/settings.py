"""`entobot config`: the settings as they would be used, and where each comes from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from entobot.agents.bot import FIELDS, Pin
from entobot.app.certificate import missing_for_acme
from entobot.config import ENVIRONMENT_PREFIX, FILE_NAME, Settings, load, system_environment
from entobot.core.errors import StartupRefused


def describe_settings(home: Path, environment: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Rows `{key, value, default, source, description}`. Raises StartupRefused when they are not right."""
    variables = system_environment() if environment is None else environment
    settings, defaults = load(home, variables), Settings()
    in_file = load(home, {})
    rows: list[dict[str, Any]] = []
    for section in Settings.model_fields:
        present: BaseModel = getattr(settings, section)
        for key, field in type(present).model_fields.items():
            value, default = _shown(getattr(present, key)), _shown(getattr(getattr(defaults, section), key))
            variable = f"ENTOBOT_{section}__{key}".upper()
            is_from_file = _shown(getattr(getattr(in_file, section), key)) != default
            source = variable if variable in variables else FILE_NAME if is_from_file else "default"
            rows.append(
                {
                    "key": f"{section}.{key}",
                    "value": value,
                    "default": default,
                    "source": source,
                    "description": field.description or "",
                }
            )
    return rows


def agent_pins(environment: Mapping[str, str], overrides: Mapping[str, Mapping[str, object]]) -> dict[str, Pin]:
    """Which of the agent's settings the environment or the command line has fixed."""
    variables = {name.lower(): name for name in environment}
    pins: dict[str, Pin] = {}
    for field in FIELDS:
        variable = variables.get(f"{ENVIRONMENT_PREFIX}agent__{field}".lower())
        if variable is not None:
            pins[field] = Pin("environment", f"the environment variable {variable}")
        if field in overrides.get("agent", {}):
            pins[field] = Pin("command", "an option of 'entobot up'")
    return pins


def check_settings(home: Path) -> list[str]:
    """What would keep the gateway from starting; empty when nothing would."""
    try:
        settings = load(home, system_environment())
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


def _shown(value: object) -> Any:
    if isinstance(value, SecretStr):
        return "(set)" if value.get_secret_value() else ""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return [str(one) for one in value]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  a tuple of plain values
    return str(value)
