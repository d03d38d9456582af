"""What is refused before anything is traced."""

import sys
from pathlib import Path

import pytest

from entobot.app.observing import make_tracer
from entobot.config import TracingSettings
from entobot.core.errors import StartupRefused
from entobot.sources import load


@pytest.mark.parametrize(
    "url",
    [
        "collector:4318",
        "grpc://collector:4317",
        "http://",
        "http://collector:0",
        "http://collector:99999",
        "http://a collector",
        "http://somebody:hunter2@collector:4318",
        "http://collector:4318/v1/traces?key=hunter2",
    ],
)
def test_a_wrong_endpoint_is_refused_at_start_and_not_told(url: str, tmp_path: Path) -> None:
    with pytest.raises(StartupRefused, match=r"tracing\.endpoint") as refusal:
        load(tmp_path, {"ENTOBOT_TRACING__ENDPOINT": url})
    assert "hunter2" not in str(refusal.value)


def test_a_url_without_a_path_means_its_v1_traces() -> None:
    assert TracingSettings(endpoint="http://[::1]:4318/").endpoint == "http://[::1]:4318/v1/traces"
    assert TracingSettings(endpoint="https://collector/otlp").endpoint == "https://collector/otlp"


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "entobot.telemetry.tracing_otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(StartupRefused, match=r"entobot\[tracing\]"):
        make_tracer(TracingSettings(endpoint="http://127.0.0.1:4318"), "node_1")
