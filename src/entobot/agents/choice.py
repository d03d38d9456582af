"""Which runner answers, and why: decided at start without loading it, told in the banner. Pure but for one look-up."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

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
    settings: AgentSettings, environment: Mapping[str, str], is_installed: Callable[[], bool] = is_extra_installed
) -> Choice:
    """Raises StartupRefused when `runner` is `llm` and it cannot be had, or when `model` names no known vendor."""
    if settings.runner == "echo":
        return Choice("echo", "", "agent.runner is 'echo'.", None)
    if settings.runner == NOBODY:
        return Choice(NOBODY, "", "agent.runner is 'none': messages are kept and delivered, nobody answers here.", None)
    endpoint, why, fix = _find_endpoint(settings, environment)
    if endpoint is not None and not is_installed():
        why, fix = f"{why} But the extra 'agent' is not installed.", f"Install it: {EXTRA}"
        endpoint = None
    if endpoint is not None:
        shown = f"{endpoint.vendor}:{endpoint.model}" if endpoint.model else "the model it serves"
        return Choice("llm", shown, why, None, endpoint)
    if settings.runner == "llm":
        raise StartupRefused(f"agent.runner is 'llm', but it cannot run. {why} {fix}")
    return Choice("echo", "", why, fix)


def _find_endpoint(settings: AgentSettings, environment: Mapping[str, str]) -> tuple[Endpoint | None, str, str | None]:
    vendor, model = _split(settings.model)
    base_url = settings.base_url or environment.get(BASE_URL_VARIABLE, "") if vendor in ("", "openai") else ""
    own_key = settings.api_key.get_secret_value()
    if base_url:
        key = own_key or environment.get(MODEL_KEY_VARIABLES["openai"], "") or None
        return Endpoint("openai", model, base_url, key), f"The model server is {base_url}.", None
    if vendor:
        key = own_key or environment.get(MODEL_KEY_VARIABLES[vendor], "")
        if not key:
            return None, f"There is no key for {vendor}.", f"Set {MODEL_KEY_VARIABLES[vendor]} or agent.api_key."
        return Endpoint(vendor, model, None, key), f"agent.model is '{settings.model}'.", None
    if settings.model:
        vendors = ", ".join(MODEL_KEY_VARIABLES)
        raise StartupRefused(
            f"agent.model is '{settings.model}', which names no vendor. Write vendor:model (vendors: {vendors}), "
            "or set agent.base_url to the server that has it."
        )
    if own_key:
        return Endpoint("openai", DEFAULT_MODELS["openai"], None, own_key), "agent.api_key is set.", None
    for known, variable in MODEL_KEY_VARIABLES.items():
        if key := environment.get(variable, ""):
            return Endpoint(known, DEFAULT_MODELS[known], None, key), f"{variable} is set.", None
    return None, "There is no model key.", f"Set one of {', '.join(MODEL_KEY_VARIABLES.values())}, or agent.base_url."


def _split(name: str) -> tuple[str, str]:
    """`vendor:model`; a name without a known vendor belongs to the server behind the base URL, colons and all."""
    vendor, separator, model = name.partition(":")
    if separator and vendor in MODEL_KEY_VARIABLES:
        if not model:
            raise StartupRefused(f"agent.model is '{name}': the model's name is missing after the colon.")
        return vendor, model
    return "", name
