"""The rig itself: packets pass, are lost or dropped as told, and pass again."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rigs import network

pytestmark = pytest.mark.skipif(network.missing() is not None, reason=str(network.missing()))

ECHO = """
import socket, sys
server = socket.create_server((sys.argv[1], 0))
print(server.getsockname()[1], flush=True)
link, _ = server.accept()
while data := link.recv(4096):
    link.sendall(data)
"""


def test_a_partition_is_silent_and_heals_and_loss_only_delays() -> None:
    with network.network("test") as net:
        command = [*net.launcher, sys.executable, "-c", ECHO, net.inside]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as echo:
            assert echo.stdout is not None
            with socket.create_connection((net.inside, int(echo.stdout.readline())), timeout=30) as link:
                link.sendall(b"before")
                assert link.recv(100) == b"before"
                net.cut_off(link.getpeername()[1])
                link.sendall(b"kept by the kernel")
                link.settimeout(0.5)
                with pytest.raises(TimeoutError):
                    link.recv(100)
                net.heal()
                link.settimeout(30)
                assert link.recv(100) == b"kept by the kernel"
                net.lose(30)
                for number in range(5):
                    link.sendall(b"%d" % number)
                    assert link.recv(100) == b"%d" % number


def test_a_network_that_was_laid_is_taken_by_one_at_a_time_and_none_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (3, 7):
        (tmp_path / f"{number}").write_text(f"ento-laid-{number}")
    monkeypatch.setenv("TESTS_LAID_NETWORKS", str(tmp_path))
    monkeypatch.setattr(network, "_made", None)
    with network.network("first") as first:
        with network.network("second") as second:
            assert {first.name, second.name} == {"ento-laid-3", "ento-laid-7"}
            assert second.inside == "10.213.7.2"
        with network.network("third") as third:
            assert third.name == second.name
