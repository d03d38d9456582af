"""A start that fails after the port was opened leaves nothing behind."""

import socket
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from entobot.app.gateway import Gateway
from entobot.app.ground import leave_ground
from entobot.config import Settings
from entobot.core.clock import SystemClock
from entobot.core.secrets import SystemEntropy
from entobot.home import Home
from entobot.sources import Layers
from tests.support.process import free_port


async def opened(folder: Path, port: int) -> Gateway:
    layers = Layers(
        {
            "gateway": {"host": "127.0.0.1", "port": port, "public_url": f"http://127.0.0.1:{port}"},
            "tls": {"mode": "off"},
            "agent": {"runner": "echo"},
        }
    )
    return await Gateway.open(Home(folder), layers, {}, clock=SystemClock(), entropy=SystemEntropy())


async def test_a_start_that_fails_late_closes_the_port_and_gives_the_folder_back(tmp_path: Path) -> None:
    port = free_port()
    gateway = await opened(tmp_path / "home", port)

    async def fail() -> None:
        socket.create_connection(("127.0.0.1", port)).close()  # it was open by then
        raise RuntimeError("no worker today")

    gateway._worker.start = fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="no worker today"):
        await gateway.start()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    again = await opened(tmp_path / "home", port)
    await again.start()
    socket.create_connection(("127.0.0.1", port)).close()
    await again.stop()


async def test_a_start_takes_no_route_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: APIRoute, path: str, *_arguments: object, **_options: object) -> None:
        raise AssertionError(f"{path} was taken apart before anybody asked")

    monkeypatch.setattr(APIRoute, "__init__", refuse)
    gateway = await opened(tmp_path / "home", free_port())
    await gateway.start()
    await gateway.stop()


async def test_the_pause_before_closing_is_a_setting_and_none_by_default() -> None:
    assert Settings().gateway.drain_pause == timedelta(0)


async def test_who_acts_on_sessions_and_links_is_looked_at_again_with_their_device(tmp_path: Path) -> None:
    gateway = await opened(tmp_path / "home", free_port())
    try:
        assert gateway.sign_in.sessions.recheck == gateway.devices.guard
    finally:
        await leave_ground(gateway.ground)
