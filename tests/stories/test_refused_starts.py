"""A gateway that would not be safe does not start, and says in one line what to change."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import GENEROUS_S, GatewayProcess, free_port


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A data folder that a gateway has used."""
    process = GatewayProcess(tmp_path_factory.mktemp("begun") / "home").start()
    process.stop()
    yield process
    process.close()


@pytest.fixture
def again(begun: GatewayProcess, tmp_path: Path) -> GatewayProcess:
    shutil.copytree(begun.home, tmp_path / "home")
    return GatewayProcess(tmp_path / "home")


def refused(gateway: GatewayProcess, *arguments: str, **options: Any) -> str:
    """What a start that must fail says."""
    done = gateway.cli("up", *arguments) if not options else _run(gateway, *arguments, **options)
    assert done.returncode not in (0, -signal.SIGKILL), done.stdout
    assert "Stop with Ctrl-C" not in done.stdout, "it never says that it runs"
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    return done.stderr


def _run(gateway: GatewayProcess, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "entobot", "up", *arguments],
        env=gateway.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=GENEROUS_S,
        check=False,
        **options,
    )


def test_a_second_gateway_on_the_same_folder_is_refused_and_the_first_goes_on(gateway: GatewayProcess) -> None:
    second = GatewayProcess(gateway.home)
    assert "Another gateway" in refused(second)
    assert gateway.http().get("/api/health").status_code == 200


def test_a_taken_port_is_refused(again: GatewayProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} is taken" in refused(again, "--port", str(port))


def test_unknown_settings_are_refused_from_file_and_environment(again: GatewayProcess) -> None:
    file = again.home / "entobot.toml"
    file.write_text("[gateway]\nallow_everybody = true\n")
    assert "gateway.allow_everybody: is not a known setting" in refused(again)
    file.unlink()
    again.environment["ENTOBOT_TLS__VERIFY"] = "no"
    assert "tls.verify: is not a known setting" in refused(again)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_plain_http_beyond_this_machine_is_refused(again: GatewayProcess, host: str) -> None:
    again.environment |= {"ENTOBOT_TLS__MODE": "off", "ENTOBOT_GATEWAY__PUBLIC_URL": "http://127.0.0.1:1234"}
    assert "without TLS" in refused(again, "--host", host)


@pytest.mark.parametrize(
    "origins", ["*", "https://*.example", "https://a.example,null", "https://a.example/", "https://A.example"]
)
def test_an_origin_that_is_not_exact_is_refused(again: GatewayProcess, origins: str) -> None:
    again.environment["ENTOBOT_GATEWAY__ALLOWED_ORIGINS"] = origins
    assert "is not an origin" in refused(again)


@pytest.mark.parametrize("name", ["keys/server.key", "keys/signing.json", "keys/audit.key", "tls/leaf.key"])
def test_a_key_that_others_could_have_read_is_refused(again: GatewayProcess, name: str) -> None:
    path = again.home / name
    if not path.exists():
        path = next((again.home / "tls").glob("*.key"))
    path.chmod(0o644)
    assert "open to others" in refused(again)


@pytest.mark.parametrize("name", ["keys/server.key", "keys/signing.json", "keys/audit.key"])
def test_a_damaged_key_is_refused_and_left_alone(again: GatewayProcess, name: str) -> None:
    path = again.home / name
    path.write_bytes(b"damaged")
    said = refused(again)
    assert "damaged" in said or path.name in said
    assert path.read_bytes() == b"damaged"


def test_a_lost_server_key_is_not_made_anew_beside_a_database(again: GatewayProcess) -> None:
    (again.home / "keys" / "server.key").unlink()
    assert "is missing" in refused(again)
    assert not (again.home / "keys" / "server.key").exists()


@pytest.mark.parametrize("damage", ["no database", "cut"])
def test_a_file_that_is_no_database_is_refused_and_left_alone(again: GatewayProcess, damage: str) -> None:
    path = again.home / "entobot.db"
    content = (
        b"this is no database, and somebody may need it" * 100 if damage == "no database" else path.read_bytes()[:5000]
    )
    path.write_bytes(content)
    assert "entobot.db" in refused(again)
    assert path.read_bytes() == content


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
def test_a_database_that_cannot_be_written_is_refused(again: GatewayProcess) -> None:
    for path in again.home.glob("entobot.db*"):
        path.chmod(0o400)
    said = refused(again, preexec_fn=without_root_s_way_around_modes)
    assert "entobot.db cannot be used" in said
    assert "Permission denied" in said


def without_root_s_way_around_modes() -> None:
    """Where the tests run as root, modes do not bind it: the program to be started loses that capability."""
    pr_capbset_drop, cap_dac_override = 24, 1
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(pr_capbset_drop, cap_dac_override, 0, 0, 0)


def test_a_refused_start_leaves_the_port_free(again: GatewayProcess) -> None:
    port = free_port()
    (again.home / "keys" / "server.key").write_bytes(b"damaged")
    refused(again, "--port", str(port))
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.parametrize(
    ("package", "extra", "settings"),
    [
        ("asyncpg", "postgres", {"ENTOBOT_STORAGE__URL": "postgresql://127.0.0.1:1/x"}),
        ("greenlet", "postgres", {"ENTOBOT_STORAGE__URL": "postgresql://127.0.0.1:1/x"}),
        (
            "nats",
            "nats",
            {"ENTOBOT_STORAGE__URL": "postgresql://127.0.0.1:1/x", "ENTOBOT_BUS__URL": "nats://127.0.0.1:1"},
        ),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_what_installs_it(
    again: GatewayProcess, tmp_path: Path, package: str, extra: str, settings: dict[str, str]
) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / f"{package}.py").write_text(f"raise ModuleNotFoundError('No module', name={package!r})")
    again.environment |= settings | {"PYTHONPATH": f"{hidden}:{again.environment['PYTHONPATH']}"}
    said = refused(again)
    assert f"pip install 'entobot[{extra}]'" in said
    assert said.count("\n") < 4
