"""The compose files: they are what the specification says, and what they name is there and is confined."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from entobot.sources import load
from tests.support.process import ROOT
from tests.support.programs import program, run

FOLDER = ROOT / "deploy" / "compose"
SCHEMA = ROOT / "tests" / "deploy" / "compose-spec.json"
FILES = ["compose.yaml", "cluster.yaml"]
SECRET = re.compile(r"(?i)(password|secret|token|(?<!tls__)key)(?!.*file)")


def parsed(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / name).read_text())


def services(name: str) -> dict[str, dict[str, Any]]:
    return parsed(name)["services"]


@pytest.mark.parametrize("name", FILES)
def test_it_is_a_compose_file(name: str) -> None:
    validator = jsonschema_rs.validator_for(json.loads(SCHEMA.read_text()))
    validator.validate(parsed(name))
    wrong = parsed(name)
    wrong["services"]["x"] = {"imagee": "nginx"}
    assert not validator.is_valid(wrong)


@pytest.mark.parametrize("name", FILES)
def test_every_service_is_confined_pinned_and_watched(name: str) -> None:
    for service, one in services(name).items():
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)?", one["image"]), service
        assert "privileged" not in one, service
        assert one["read_only"] is True, service
        assert one["cap_drop"] == ["ALL"], service
        assert "no-new-privileges:true" in one["security_opt"], service
        assert one["healthcheck"]["test"][0] == "CMD", service
        assert one["restart"] == "unless-stopped", service
        assert "network_mode" not in one, service
        assert not [mount for mount in one.get("volumes", []) if "docker.sock" in mount], service


@pytest.mark.parametrize("name", FILES)
def test_secrets_are_files(name: str) -> None:
    declared = parsed(name)["secrets"]
    for service, one in services(name).items():
        for variable, value in one.get("environment", {}).items():
            assert not SECRET.search(variable) or "_FILE" in variable or str(value).startswith("/run/secrets/"), service
            assert not re.search(r"://[^/\s]*:[^/\s]*@", str(value)), "no password in an address"
        for secret in one.get("secrets", []):
            assert declared[secret]["file"].startswith("./secrets/")
        mounted = {f"/run/secrets/{secret}" for secret in one.get("secrets", [])}
        assert {value for value in one.get("environment", {}).values() if str(value).startswith("/run/")} <= mounted


@pytest.mark.parametrize("name", FILES)
def test_what_it_mounts_is_there(name: str) -> None:
    volumes = set(parsed(name)["volumes"])
    for one in services(name).values():
        for mount in one.get("volumes", []):
            source = mount.split(":")[0]
            assert source in volumes or (FOLDER / source).exists(), mount
        if "build" in one:
            assert (FOLDER / one["build"]["context"] / one["build"]["dockerfile"]).is_file()


def test_only_nodes_are_open_to_the_network() -> None:
    published = {name: one.get("ports", []) for name, one in services("cluster.yaml").items()}
    outside = {name for name, ports in published.items() if any(not port.startswith("127.0.0.1:") for port in ports)}
    assert outside == {"node-a", "node-b"}


@pytest.mark.parametrize(("name", "service"), [("compose.yaml", "gateway"), ("cluster.yaml", "node-b")])
def test_the_gateway_takes_the_settings_that_it_is_given(name: str, service: str, tmp_path: Path) -> None:
    given = {"ENTOBOT_HOST": "gateway.local", "ENTOBOT_PUBLIC_URL": "https://gateway.example.com"}
    variables: dict[str, str] = {}
    for variable, text in services(name)[service]["environment"].items():
        value = re.sub(r"\$\{(\w+)(?::-(\w+)|:\?[^}]*)?\}", lambda found: given.get(found[1], found[2] or ""), text)
        if value.startswith("/run/secrets/"):
            file = tmp_path / Path(value).name
            file.write_text("secret\n")
            value = str(file)
        variables[variable] = value
    settings = load(tmp_path, variables)
    assert settings.gateway.public_url.startswith("https://gateway.")
    assert settings.agent.api_key.get_secret_value() == "secret"
    if service == "node-b":
        assert settings.storage.password_file == tmp_path / "postgres-password"
        assert settings.bus.url.get_secret_value() == "nats://nats:4222"


def test_prometheus_watches_every_node_with_the_alerts_of_this_tree(tmp_path: Path) -> None:
    text = (FOLDER / "prometheus.yml").read_text()
    (targets,) = yaml.safe_load(text)["scrape_configs"][0]["static_configs"]
    assert targets["targets"] == [f"{name}:18790" for name in services("cluster.yaml") if name.startswith("node-")]
    (tmp_path / "prometheus.yml").write_text(text.replace("/run/secrets/", ""))
    (tmp_path / "metrics-key").touch()
    (tmp_path / "alerts.yml").write_text((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())
    checked = run([program("promtool", "prometheus"), "check", "config", tmp_path / "prometheus.yml"])
    assert checked.returncode == 0, checked.stdout


def test_grafana_reads_the_dashboards_from_where_they_are_mounted() -> None:
    (provider,) = yaml.safe_load((FOLDER / "grafana" / "dashboards.yml").read_text())["providers"]
    mounts = dict(mount.split(":")[:2] for mount in services("cluster.yaml")["grafana"]["volumes"])
    assert mounts["../grafana"] == provider["options"]["path"]
    (source,) = yaml.safe_load((FOLDER / "grafana" / "datasource.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
