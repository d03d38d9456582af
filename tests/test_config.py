from datetime import timedelta
from pathlib import Path

import pytest

from entobot.config import FILE_NAME, Settings
from entobot.core.errors import StartupRefused
from entobot.sources import load


def write(home: Path, text: str) -> None:
    (home / FILE_NAME).write_text(text)


def test_without_a_file_and_variables_the_defaults_hold(tmp_path: Path) -> None:
    assert load(tmp_path, {}) == Settings()


def test_the_file_beats_the_defaults(tmp_path: Path) -> None:
    write(tmp_path, '[gateway]\nport = 4000\nallowed_origins = ["https://a.example"]\nheartbeat = "PT10S"')
    gateway = load(tmp_path, {}).gateway
    assert (gateway.port, gateway.allowed_origins, gateway.heartbeat) == (
        4000,
        ("https://a.example",),
        timedelta(seconds=10),
    )


def test_the_environment_beats_the_file(tmp_path: Path) -> None:
    write(tmp_path, '[gateway]\nport = 4000\nname = "file"')
    gateway = load(tmp_path, {"ENTOBOT_GATEWAY__PORT": "5000"}).gateway
    assert (gateway.port, gateway.name) == (5000, "file")


def test_the_environment_beats_the_file_even_when_it_is_empty(tmp_path: Path) -> None:
    write(tmp_path, '[agent]\nmodel = "openai:x"\nbase_url = "http://model"')
    agent = load(tmp_path, {"ENTOBOT_AGENT__MODEL": "", "ENTOBOT_AGENT__BASE_URL": ""}).agent
    assert (agent.model, agent.base_url) == ("", "")


def test_an_empty_value_in_the_file_does_not_beat_the_environment(tmp_path: Path) -> None:
    write(tmp_path, '[agent]\nmodel = ""')
    assert load(tmp_path, {"ENTOBOT_AGENT__MODEL": "openai:x"}).agent.model == "openai:x"


def test_the_command_line_beats_the_environment(tmp_path: Path) -> None:
    settings = load(tmp_path, {"ENTOBOT_GATEWAY__PORT": "5000"}, {"gateway": {"port": 6000}})
    assert settings.gateway.port == 6000


def sink(text: str) -> str:
    return f"[[audit.sinks]]\nname = 'siem'\n{text}\n"


def test_receivers_of_the_audit_log_stand_in_the_file_or_as_json_in_a_variable(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(sink("format = 'ocsf'\nurl = 'https://siem.example/in'"))
    assert load(tmp_path, {}).audit.sinks[0].name == "siem"
    variable = '[{"name": "log", "format": "syslog", "url": "tls://log.example"}]'
    assert load(tmp_path, {"ENTOBOT_AUDIT__SINKS": variable}).audit.sinks[0].name == "log"
    assert load(tmp_path, {"ENTOBOT_AUDIT__SINKS": ""}).audit.sinks == ()
    with pytest.raises(StartupRefused, match=r"audit\.sinks"):
        load(tmp_path, {"ENTOBOT_AUDIT__SINKS": "siem"})


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[gateway]\nprot = 1", "gateway.prot"),
        ("[getaway]\nport = 1", "getaway"),
        ("port = 1", "'port'"),
        ("[gateway]\nport = 70000", "gateway.port"),
        ('[tls]\nmode = "maybe"', "tls.mode"),
        ('[gateway]\ntrusted_proxies = ["10.0.0.1/8"]', "gateway.trusted_proxies.*10.0.0.1/8"),
        ('[gateway]\ntrusted_proxies = ["proxy.example"]', "gateway.trusted_proxies.*proxy.example"),
        ('[gateway]\ntrusted_proxies = ["0.0.0.0/0"]', "trusted_proxies may not hold every address"),
        ('[gateway]\ntrusted_proxies = ["::/0"]', "trusted_proxies may not hold every address"),
        ('[gateway]\nallowed_networks = ["192.168.1.0/24", "lan"]', "gateway.allowed_networks.*lan"),
        ("[gateway]\nproxy_protocol = true", "proxy_protocol needs trusted_proxies"),
        ("[gateway]\nport = 4000\nws_port = 4000", "ws_port and port are the same"),
        (sink("format = 'syslog'\nurl = 'https://siem.example/'"), "begins with tls://"),
        (sink("format = 'jsonl'\nurl = 'tls://siem.example'"), "begins with file:// or http:// or https://"),
        (sink("format = 'jsonl'\nurl = 'file://host/x'"), "named from the root"),
        (sink("format = 'jsonl'\nurl = 'http://siem.example/'"), "plain http:// is for this machine"),
        (sink("format = 'jsonl'\nurl = 'https://me:secret@siem.example/'"), "no user or password"),
        (sink("format = 'jsonl'\nurl = 'file:///x'\ntoken_file = '/t'"), "token_file is for https://"),
        (sink("format = 'jsonl'\nurl = 'file:///x'\nauthority = '/t'"), "are for https:// and tls://"),
        (sink("format = 'syslog'\nurl = 'tls://h'\nkey = '/t'"), "belong together"),
        (sink("format = 'cef'\nurl = 'tls://h'"), "audit.sinks.0.format"),
        (sink("format = 'jsonl'\nurl = 'file:///x'\ncolour = 'red'"), "audit.sinks.0.colour"),
        (2 * sink("format = 'jsonl'\nurl = 'file:///x'"), "two have the same name"),
        ("[audit]\ncheckpoint_every = 0", "audit.checkpoint_every"),
        ("[gateway", FILE_NAME),
        ("[gateway]\nname = '\udcff'", FILE_NAME),
    ],
)
def test_a_wrong_file_refuses_and_names_what_is_wrong(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / FILE_NAME).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(StartupRefused, match=name):
        load(tmp_path, {})


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("ENTOBOT_GATEWAY__PROT", "gateway.prot"),
        ("ENTOBOT_GETAWAY__PORT", "getaway"),
        ("ENTOBOT_PORT", "ENTOBOT_PORT"),
        ("ENTOBOT_GATEWAY__PORT", "gateway.port"),
        ("ENTOBOT_", "ENTOBOT_"),
    ],
)
def test_a_wrong_variable_refuses_and_names_what_is_wrong(tmp_path: Path, variable: str, name: str) -> None:
    with pytest.raises(StartupRefused, match=name):
        load(tmp_path, {variable: "x"})


def test_variables_of_others_and_the_place_of_the_folder_are_left_alone(tmp_path: Path) -> None:
    assert load(tmp_path, {"ENTOBOT_HOME": "/x", "PATH": "/bin", "GATEWAY__PORT": "1"}) == Settings()


def test_a_secret_does_not_print(tmp_path: Path) -> None:
    settings = load(tmp_path, {"ENTOBOT_AGENT__API_KEY": "sk-very-secret"})
    assert settings.agent.api_key.get_secret_value() == "sk-very-secret"
    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert "very-secret" not in shown


def test_a_wrong_value_is_not_repeated_in_the_refusal(tmp_path: Path) -> None:
    with pytest.raises(StartupRefused) as refused:
        load(tmp_path, {"ENTOBOT_GATEWAY__PORT": "sk-very-secret", "ENTOBOT_AGENT__API_KEYS": "sk-very-secret"})
    assert "very-secret" not in str(refused.value)


def test_every_wrong_setting_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(StartupRefused) as refused:
        load(tmp_path, {"ENTOBOT_GATEWAY__PORT": "x", "ENTOBOT_AGENT__MODLE": "x"})
    assert "gateway.port" in str(refused.value)
    assert "agent.modle" in str(refused.value)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().gateway.port = 1  # pyright: ignore[reportAttributeAccessIssue]  what is to be refused


def test_every_setting_is_lower_case_without_double_underscores() -> None:
    names = [name for section in Settings.model_fields.values() for name in section.default.model_fields_set]
    for section_name, section in Settings.model_fields.items():
        names += [section_name, *type(section.default).model_fields]
    assert [name for name in names if name != name.lower() or "__" in name] == []


@pytest.mark.parametrize("text", ["20", "20.0", "PT20S"])
def test_a_duration_is_seconds_or_iso_8601_in_a_variable_too(tmp_path: Path, text: str) -> None:
    settings = load(tmp_path, {"ENTOBOT_GATEWAY__HEARTBEAT": text})
    assert settings.gateway.heartbeat == timedelta(seconds=20)


@pytest.mark.parametrize("text", ["https://a.example,https://b.example", "https://a.example https://b.example"])
def test_a_list_in_a_variable_is_written_with_commas_or_spaces(tmp_path: Path, text: str) -> None:
    settings = load(tmp_path, {"ENTOBOT_GATEWAY__ALLOWED_ORIGINS": text})
    assert settings.gateway.allowed_origins == ("https://a.example", "https://b.example")


def test_the_model_key_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-of-the-file\n")
    named = {"ENTOBOT_AGENT__API_KEY_FILE": str(key)}
    assert load(tmp_path, named).agent.api_key.get_secret_value() == "sk-of-the-file"
    assert load(tmp_path, named | {"ENTOBOT_AGENT__API_KEY": "own"}).agent.api_key.get_secret_value() == "own"
    key.write_text("\n")
    assert load(tmp_path, named).agent.api_key.get_secret_value() == "", "an empty file is no key"
    assert load(tmp_path, {"ENTOBOT_AGENT__API_KEY_FILE": ""}).agent.api_key_file is None
    key.unlink()
    with pytest.raises(StartupRefused, match=r"agent: .*api_key_file: .*/key cannot be read \(No such file"):
        load(tmp_path, named)
