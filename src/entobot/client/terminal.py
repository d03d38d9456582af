"""This terminal as a device: paired once through the same service as a phone, with its key in the data folder."""

import json
import platform
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from entobot import __version__
from entobot.client.device import Credentials, Device, answer
from entobot.client.keys import DeviceKey
from entobot.client.local import GatewayNotRunning, local_http
from entobot.core.clock import SystemClock
from entobot.core.errors import Code, Problem
from entobot.core.secrets import SystemEntropy
from entobot.home import read_private, write_private

SCOPES = ["approve", "chat", "notify"]


@contextmanager
def terminal_device(home: Path) -> Generator[Device]:
    """The paired device of this data folder's terminal. Pairs at first use, and anew after a revoke.

    Raises Problem, GatewayNotRunning.
    """
    import httpx

    clock, entropy = SystemClock(), SystemEntropy()
    file = home / "terminal.json"
    try:
        with local_http(home / "gateway.sock") as http:
            origin = answer(http.get("/api/health"))["origin"]
            device = _load(file, Device(DeviceKey.generate(), origin, http, clock, entropy))
            device.on_refreshed = lambda: _save(file, device)
            if device.credentials is None or not _is_accepted(device):
                device.key, device.credentials = DeviceKey.generate(), None
                _pair(device)
            yield device
    except (httpx.ConnectError, FileNotFoundError):
        raise GatewayNotRunning(f"No gateway runs on {home}. Start one with 'entobot up'.") from None


def _is_accepted(device: Device) -> bool:
    try:
        device.refresh()
    except Problem as problem:
        if problem.code in (Code.REFRESH_INVALID, Code.UNAUTHENTICATED):
            return False
        raise
    return True


def _pair(device: Device) -> None:
    """Invite as the owner, claim as the device, confirm as the owner: both are here."""
    http = device.http
    invites = "/api/v1/pairing/invites"
    invite = answer(http.post(invites, json={"kind": "qr", "label": "this terminal", "scopes": SCOPES}))
    claim = device.claim(
        secret=invite["secret"],
        invite_id=invite["invite_id"],
        device_name=f"Terminal on {platform.node() or 'this machine'}"[:64],
        platform="desktop",
        app_version=__version__,
    )
    confirmation = {"claim_id": claim["claim_id"], "code": claim["confirmation_code"]}
    answer(http.post(f"{invites}/{invite['invite_id']}/confirm", json=confirmation))
    device.collect(claim["claim_id"], wait_s=0)


def _load(file: Path, device: Device) -> Device:
    data = read_private(file)
    if data is None:
        return device
    try:
        stored = json.loads(data)
        device.key = DeviceKey.from_text(stored.pop("key"))
        device.credentials = Credentials(**stored)
    except (ValueError, TypeError, KeyError):
        return device
    return device


def _save(file: Path, device: Device) -> None:
    assert device.credentials is not None
    stored = {"key": device.key.to_text(), **asdict(device.credentials), "access_token": "", "expires_at_ms": 0}
    write_private(file, json.dumps(stored).encode())
