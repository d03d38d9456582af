"""This terminal as a device: paired once through the same service as a phone, with its key in the data folder."""

import platform
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from entobot.client.answers import answer
from entobot.client.client import Client
from entobot.client.identity import Identity, IdentityFile
from entobot.client.local import GatewayNotRunning
from entobot.client.pairing import Asking, Invite, pair
from entobot.client.reach import SocketReach
from entobot.client.states import State, Stopped
from entobot.core.clock import SystemClock
from entobot.core.secrets import SystemEntropy

SCOPES = ["approve", "chat", "notify"]
INVITES = "/api/v1/pairing/invites"


@asynccontextmanager
async def terminal_client(home: Path, on_state: Callable[[State], None] = lambda _: None) -> AsyncGenerator[Client]:
    """The paired device of this data folder's terminal, connected. Pairs at first use, and anew after a revoke.

    Raises Problem, GatewayNotRunning, Stopped.
    """
    store = IdentityFile(home / "terminal.json")
    found = _load(store)
    for is_last in (found is None, True):
        reach = SocketReach(home / "gateway.sock")
        try:
            origin = answer(await (await reach.http()).get("/api/health"))["origin"]
            if found is None:
                name = f"Terminal on {platform.node() or 'this machine'}"[:64]
                identity = await _pair(reach, origin, name, label="this terminal")
            else:
                identity = replace(found, origin=origin)
        except (httpx.ConnectError, FileNotFoundError):
            await reach.close()
            raise GatewayNotRunning(f"No gateway runs on {home}. Start one with 'entobot up'.") from None
        store.save(identity)
        async with Client(identity, store, reach=reach, on_state=on_state) as client:
            try:
                await client.connected()
            except Stopped:
                if is_last:
                    raise
                found = None
                continue
            yield client
            return


def _load(store: IdentityFile) -> Identity | None:
    try:
        return store.load()
    except (ValueError, TypeError, KeyError):
        return None


async def pair_here(home: Path, name: str) -> Identity:
    """A new device of the owner that reaches the gateway by its origin. Raises Problem, GatewayNotRunning."""
    reach = SocketReach(home / "gateway.sock")
    try:
        return await _pair(reach, None, name, label=name)
    except (httpx.ConnectError, FileNotFoundError):
        raise GatewayNotRunning(f"No gateway runs on {home}. Start one with 'entobot up'.") from None
    finally:
        await reach.close()


async def _pair(reach: SocketReach, origin: str | None, name: str, *, label: str) -> Identity:
    """Invite as the owner, claim as the device, confirm as the owner: all are here."""
    http = await reach.http()
    invite: dict[str, Any] = answer(await http.post(INVITES, json={"kind": "qr", "label": label, "scopes": SCOPES}))

    async def confirm(asking: Asking) -> None:
        typed = {"claim_id": asking.claim_id, "code": asking.digits}
        answer(await http.post(f"{INVITES}/{invite['invite_id']}/confirm", json=typed))

    shown = Invite.from_link(invite["url"])
    return await pair(
        shown if origin is None else replace(shown, origin=origin),
        trust=None,
        device_name=name,
        platform="desktop",
        show=confirm,
        clock=SystemClock(),
        entropy=SystemEntropy(),
        reach=reach,
    )
