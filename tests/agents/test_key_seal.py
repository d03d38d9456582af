"""A stored key opens for the provider and the address that it was given for, and for nothing else."""

from entobot.agents.choice import COMPATIBLE, Keys, KeySource, choose, find_key
from entobot.agents.key_seal import KeySeal
from entobot.config import AgentSettings
from tests.support.time import SeededEntropy

HERE = "http://127.0.0.1:11434/v1"


def test_a_key_opens_for_its_provider_and_address_only() -> None:
    seal = KeySeal(bytes(32), SeededEntropy())
    sealed = seal.close("sk-secret", COMPATIBLE, HERE)
    assert b"sk-secret" not in sealed
    assert seal.open(sealed, COMPATIBLE, HERE) == "sk-secret"
    assert seal.open(sealed, COMPATIBLE, "http://elsewhere.example/v1") is None
    assert seal.open(sealed, "openai", HERE) is None
    assert KeySeal(bytes([1]) * 32, SeededEntropy()).open(sealed, COMPATIBLE, HERE) is None
    assert seal.open(b"short", COMPATIBLE, HERE) is None


def test_keys_of_file_and_environment_never_go_to_an_address_that_was_stored() -> None:
    settings, environment = AgentSettings(base_url=HERE, api_key="of-the-file"), {"OPENAI_API_KEY": "of-the-variable"}  # pyright: ignore[reportArgumentType]  as it stands in the file
    assert find_key(COMPATIBLE, settings, environment, Keys(is_url_stored=True)) == ("", KeySource.NONE)
    endpoint = choose(settings, environment, lambda: True, Keys(is_url_stored=True)).endpoint
    assert endpoint is not None
    assert endpoint.api_key is None


def test_a_variable_beats_a_stored_key_which_beats_the_file() -> None:
    settings = AgentSettings(api_key="of-the-file")  # pyright: ignore[reportArgumentType]  as it stands in the file
    keys = Keys(stored={"groq": "stored"})
    assert find_key("groq", settings, {}, keys) == ("stored", KeySource.STORED)
    assert find_key("groq", settings, {"GROQ_API_KEY": "v"}, keys) == ("v", KeySource.ENVIRONMENT)
    assert find_key("openai", settings, {}, keys) == ("of-the-file", KeySource.FILE)
    pinned = Keys(stored={"groq": "stored"}, is_own_pinned=True)
    assert find_key("groq", settings, {"GROQ_API_KEY": "v"}, pinned) == ("of-the-file", KeySource.ENVIRONMENT)
