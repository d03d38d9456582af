"""Which runner answers, and what the person at the terminal is told."""

import asyncio
import json
import subprocess
import sys

import pytest
from pydantic import SecretStr

from entobot.agents import runner_llm
from entobot.agents.choice import Endpoint, choose
from entobot.agents.runner_llm import build_llm
from entobot.config import MODEL_KEY_VARIABLES, AgentSettings
from entobot.core.errors import StartupRefused


def test_without_a_key_echo_answers_and_says_what_to_set() -> None:
    choice = choose(AgentSettings(), {}, lambda: True)
    assert (choice.runner_kind, choice.why) == ("echo", "There is no model key.")
    assert choice.fix is not None
    assert "OPENAI_API_KEY" in choice.fix


@pytest.mark.parametrize(("vendor", "variable"), MODEL_KEY_VARIABLES.items())
def test_a_key_in_the_environment_chooses_its_vendor(vendor: str, variable: str) -> None:
    choice = choose(AgentSettings(), {variable: "k"}, lambda: True)
    assert choice.runner_kind == "llm"
    assert choice.model.startswith(f"{vendor}:")
    assert choice.why == f"{variable} is set."
    assert choice.endpoint is not None
    assert choice.endpoint.api_key == "k"


@pytest.mark.parametrize("environment", [{"OPENAI_API_KEY": "k"}, {"OPENAI_BASE_URL": "http://127.0.0.1:8000/v1"}])
def test_without_the_extra_auto_falls_back_to_echo_and_says_how_to_install_it(environment: dict[str, str]) -> None:
    choice = choose(AgentSettings(), environment, lambda: False)
    assert choice.runner_kind == "echo"
    assert choice.why.endswith("But the extra 'agent' is not installed.")
    assert choice.fix == "Install it: pip install 'entobot[agent]'"


def test_an_empty_variable_is_no_key() -> None:
    assert choose(AgentSettings(), {"OPENAI_API_KEY": ""}, lambda: True).runner_kind == "echo"


def test_echo_by_settings_needs_no_explanation() -> None:
    choice = choose(AgentSettings(runner="echo"), {"OPENAI_API_KEY": "k"}, lambda: True)
    assert (choice.runner_kind, choice.fix) == ("echo", None)


def test_nobody_by_settings_beats_a_key() -> None:
    choice = choose(AgentSettings(runner="none"), {"OPENAI_API_KEY": "k"}, lambda: True)
    assert (choice.runner_kind, choice.fix, choice.endpoint) == ("none", None, None)


def test_a_base_url_needs_neither_key_nor_model() -> None:
    choice = choose(AgentSettings(base_url="http://127.0.0.1:11434/v1"), {}, lambda: True)
    assert (choice.runner_kind, choice.model) == ("llm", "the model it serves")
    assert choice.endpoint is not None
    assert (choice.endpoint.model, choice.endpoint.api_key) == ("", None)


def test_a_local_models_name_may_have_a_colon() -> None:
    choice = choose(AgentSettings(base_url="http://127.0.0.1:11434/v1", model="qwen3:8b"), {}, lambda: True)
    assert choice.endpoint is not None
    assert choice.endpoint.model == "qwen3:8b"


def test_settings_win_over_the_environment() -> None:
    settings = AgentSettings(model="anthropic:claude-sonnet-5-5", api_key=SecretStr("mine"))
    choice = choose(settings, {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://x/v1"}, lambda: True)
    assert choice.endpoint is not None
    assert (choice.endpoint.vendor, choice.endpoint.base_url, choice.endpoint.api_key) == ("anthropic", None, "mine")


@pytest.mark.parametrize(
    ("settings", "installed", "told"),
    [
        (AgentSettings(runner="llm"), True, "There is no model key."),
        (AgentSettings(runner="llm", model="groq:x"), True, "GROQ_API_KEY"),
        (AgentSettings(runner="llm", api_key=SecretStr("k")), False, "pip install"),
        (AgentSettings(model="openai:"), True, "missing after the colon"),
    ],
)
def test_what_was_asked_for_and_cannot_be_had_refuses_to_start(
    settings: AgentSettings, installed: bool, told: str
) -> None:
    with pytest.raises(StartupRefused, match=told):
        choose(settings, {}, lambda: installed)


def test_a_key_is_never_printed() -> None:
    assert "hush" not in repr(choose(AgentSettings(), {"OPENAI_API_KEY": "hush"}, lambda: True))


@pytest.mark.parametrize(("vendor", "variable"), MODEL_KEY_VARIABLES.items())
async def test_every_vendors_model_can_be_built(vendor: str, variable: str) -> None:
    endpoint = choose(AgentSettings(), {variable: "k"}, lambda: True).endpoint
    assert endpoint is not None
    runner = await asyncio.to_thread(build_llm, endpoint, AgentSettings())
    assert runner.name.startswith(f"{vendor}:")
    await runner.close()


async def test_two_models_at_once_do_not_find_the_library_half_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two threads failed with an ImportError: somebody tried a provider while the gateway started."""
    built: list[bool] = []

    def build(*_: object) -> None:
        built.append(runner_llm.LOADING.locked())

    monkeypatch.setattr(runner_llm, "_build", build)
    endpoint = Endpoint("compatible", "one", "http://127.0.0.1:9/v1", "k")
    await asyncio.gather(*(asyncio.to_thread(build_llm, endpoint, AgentSettings()) for _ in range(2)))
    assert built == [True, True]


BUILD = """
import json, sys
from entobot.core.imports import without
with without("rich"):
    import structlog
from entobot.agents.choice import choose
from entobot.agents.runner_llm import build_llm
from entobot.config import AgentSettings
settings = AgentSettings(base_url="http://127.0.0.1:9/v1", model="none")
build_llm(choose(settings, {}, lambda: True).endpoint, settings)
print(json.dumps(list(sys.modules)))
"""


def test_the_model_library_comes_without_price_lists_and_drawings() -> None:
    """In a process of its own: modules once loaded stay."""
    done = subprocess.run([sys.executable, "-c", BUILD], capture_output=True, text=True, check=True, timeout=60)
    modules = json.loads(done.stdout)
    assert {"pydantic_ai.direct", "openai"} <= set(modules)
    assert not {"genai_prices.data", "pygments", "rich.console"} & set(modules)
