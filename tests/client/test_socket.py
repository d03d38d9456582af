"""Clients at the local socket, where there is no TLS."""

import ssl
from pathlib import Path

import pytest

from entobot.client.local import local_http
from entobot.client.reach import SocketReach
from entobot.mcp.human_rest import at_socket
from tests.support.time import ManualClock


@pytest.fixture(autouse=True)
def _no_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading those of the Internet takes longer than all else that a command does."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("authorities were loaded for a socket without TLS")

    monkeypatch.setattr(ssl, "create_default_context", refuse)


def test_a_command_loads_no_authorities(tmp_path: Path) -> None:
    with local_http(tmp_path / "gateway.sock") as http:
        assert http.base_url.scheme == "http"


async def test_a_program_that_stays_connected_loads_none(tmp_path: Path) -> None:
    reach = SocketReach(tmp_path / "gateway.sock")
    assert (await reach.http()).base_url.scheme == "http"
    await reach.close()


async def test_an_mcp_server_loads_none(tmp_path: Path) -> None:
    async with at_socket(tmp_path / "gateway.sock", ManualClock()):
        pass
