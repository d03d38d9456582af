"""Which runner answers, and why: decided at start without loading it, told in the banner. Pure but for one look-up."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from entobot.config import MODEL_KEY_VARIABLES, AgentSettings
from entobot.core.errors import StartupRefused

NOBODY = "none"
EXTRA = "pip install 'entobot[agent]'"
BASE_URL_VARIABLE = "OPENAI_BASE_URL"
DEFAULT_MODELS = {
    "openai": "gpt-6.1-terra",
    "anthropic": "claude-sonnet-5-5",
    "openrouter": "openrouter/auto",
    "gemini": "gemini-3.8-flash",
    "groq": "openai/gpt-oss-120b",
    "deepseek": "deepseek-flash",
}
"""The middle of what each vendor sells to anyone with a key."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the model is. `model` empty: a server behind `base_url` is asked for the name of the one it serves."""

    vendor: str
    model: str
    base_url: str | None
    api_key: str | None = field(repr=False)


COMPATIBLE = "compatible"
"""The provider behind `agent.base_url`: any OpenAI-compatible server."""
PROVIDERS = (*MODEL_KEY_VARIABLES, COMPATIBLE)


class KeySource(StrEnum):
    ENVIRONMENT = "environment"
    FILE = "file"
    NONE = "none"
    STORED = "stored"


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys that were stored while the gateway ran, by provider, and what decides where they may go.

    `is_own_pinned`: `agent.api_key` stands in the environment or on the command line. `is_url_stored`: `agent.base_url`
    was given over the API; the keys of file and environment were not given for that address and never go there.
    """

    stored: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    is_own_pinned: bool = False
    is_url_stored: bool = False


NO_KEYS = Keys()


def find_key(
    provider: str, settings: AgentSettings, environment: Mapping[str, str], keys: Keys
) -> tuple[str, KeySource]:
    """The key for `provider`, empty where there is none, and where it comes from: environment, stored, file."""
    stored = keys.stored.get(provider, "")
    if provider == COMPATIBLE and keys.is_url_stored:
        return stored, KeySource.STORED if stored else KeySource.NONE
    own = settings.api_key.get_secret_value()
    vendor = environment.get(MODEL_KEY_VARIABLES["openai" if provider == COMPATIBLE else provider], "")
    for key, source in (
        (own if keys.is_own_pinned else "", KeySource.ENVIRONMENT),
        (vendor, KeySource.ENVIRONMENT),
        (stored, KeySource.STORED),
        (own, KeySource.FILE),
    ):
        if key:
            return key, source
    return "", KeySource.NONE


@dataclass(frozen=True, slots=True)
class Choice:
    """`why` and `fix` are sentences for the person who starts the gateway; `fix` is None when nothing is missing."""

    runner_kind: str
    model: str
    why: str
    fix: str | None
    endpoint: Endpoint | None = None


def is_extra_installed() -> bool:
    """Whether the extra `agent` is there; finds it without importing it."""
    return importlib.util.find_spec("pydantic_ai") is not None


def choose(
    settings: AgentSettings,
    environment: Mapping[str, str],
    is_installed: Callable[[], bool] = is_extra_installed,
    keys: Keys = NO_KEYS,
) -> Choice:
    """Raises StartupRefused when `runner` is `llm` and it cannot be had, or when `model` names no known vendor."""
    if settings.runner == "echo":
        return Choice("echo", "", "agent.runner is 'echo'.", None)
    if settings.runner == NOBODY:
        return Choice(NOBODY, "", "agent.runner is 'none': messages are kept and delivered, nobody answers here.", None)
    endpoint, why, fix = _find_endpoint(settings, environment, keys)
    if endpoint is not None and not is_installed():
        why, fix = f"{why} But the extra 'agent' is not installed.", f"Install it: {EXTRA}"
        endpoint = None
    if endpoint is not None:
        shown = f"{endpoint.vendor}:{endpoint.model}" if endpoint.model else "the model it serves"
        return Choice("llm", shown, why, None, endpoint)
    if settings.runner == "llm":
        raise StartupRefused(f"agent.runner is 'llm', but it cannot run. {why} {fix}")
    return Choice("echo", "", why, fix)


def _find_endpoint(
    settings: AgentSettings, environment: Mapping[str, str], keys: Keys
) -> tuple[Endpoint | None, str, str | None]:
    vendor, model = split_model(settings.model)
    base_url = settings.base_url or environment.get(BASE_URL_VARIABLE, "") if vendor in ("", "openai") else ""
    if base_url:
        key = find_key(COMPATIBLE, settings, environment, keys)[0] or None
        return Endpoint("openai", model, base_url, key), f"The model server is {base_url}.", None
    if vendor:
        key, _ = find_key(vendor, settings, environment, keys)
        if not key:
            return None, f"There is no key for {vendor}.", f"Set {MODEL_KEY_VARIABLES[vendor]} or agent.api_key."
        return Endpoint(vendor, model, None, key), f"agent.model is '{settings.model}'.", None
    if settings.model:
        vendors = ", ".join(MODEL_KEY_VARIABLES)
        raise StartupRefused(
            f"agent.model is '{settings.model}', which names no vendor. Write vendor:model (vendors: {vendors}), "
            "or set agent.base_url to the server that has it."
        )
    return _find_by_key(settings, environment, keys)


def _find_by_key(
    settings: AgentSettings, environment: Mapping[str, str], keys: Keys
) -> tuple[Endpoint | None, str, str | None]:
    """Where neither model nor address is said: the first vendor with a key, variables before what is stored."""
    said: dict[str, str] = {}
    if settings.api_key.get_secret_value():
        said["openai"] = "agent.api_key is set."
    for known, variable in MODEL_KEY_VARIABLES.items():
        if environment.get(variable, ""):
            said.setdefault(known, f"{variable} is set.")
    for known in MODEL_KEY_VARIABLES:
        if known in keys.stored:
            said.setdefault(known, f"A key for {known} is stored.")
    for known, why in said.items():
        key, _ = find_key(known, settings, environment, keys)
        return Endpoint(known, DEFAULT_MODELS[known], None, key), why, None
    variables = ", ".join(MODEL_KEY_VARIABLES.values())
    return None, "There is no model key.", f"Set one of {variables}, or agent.base_url."


def split_model(name: str) -> tuple[str, str]:
    """`vendor:model`; a name without a known vendor belongs to the server behind the base URL, colons and all."""
    vendor, separator, model = name.partition(":")
    if separator and vendor in MODEL_KEY_VARIABLES:
        if not model:
            raise StartupRefused(f"agent.model is '{name}': the model's name is missing after the colon.")
        return vendor, model
    return "", name
