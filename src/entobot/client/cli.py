"""`entobot simulate`: devices against a gateway, so that others can test theirs."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from entobot.client.console import AsJson, Exit, give_up, hint, place, say, told
from entobot.core.errors import Code, Problem

if TYPE_CHECKING:
    from entobot.client.identity import Identity
    from entobot.client.simulation import Plan, Simulation, Summary

LABEL = "Simulated"


@told
def simulate(
    context: typer.Context,
    devices: Annotated[int, typer.Option(help="How many.", min=1, max=20_000)] = 10,
    rate: Annotated[float, typer.Option(help="Messages a second, of all together.", min=0, max=10_000)] = 5.0,
    seconds: Annotated[float, typer.Option(help="How long messages are sent.", min=1, max=3600)] = 30.0,
    ramp: Annotated[float, typer.Option(help="Seconds over which they connect.", min=0, max=3600)] = 0.0,
    drops: Annotated[float, typer.Option(help="Connections lost a second, of all together.", min=0, max=1000)] = 0.0,
    storm_every: Annotated[float, typer.Option(help="Seconds between losses of all connections.", min=0)] = 0.0,
    approvals: Annotated[float, typer.Option(help="Share of messages that ask first (echo).", min=0, max=1)] = 0.0,
    slow: Annotated[float, typer.Option(help="Share of devices that read slowly.", min=0, max=1)] = 0.0,
    credentials: Annotated[
        Path | None, typer.Option(help="A folder of paired devices, a JSON file each; else they are paired here.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Do not revoke the devices at the end.")] = False,
    owned: Annotated[
        bool, typer.Option("--i-own-this-gateway", help="It is not on this machine, and I may load it.")
    ] = False,
    seed: Annotated[str | None, typer.Option(help="Repeats the choices of an earlier run.")] = None,
    as_json: AsJson = False,
) -> None:
    """Connect devices to a gateway, load it, and check that every promise held.

    Without --credentials they are paired with the gateway of the data folder, as the owner's; what they say stays in
    the owner's conversations, so use a folder of its own.
    """
    if context.invoked_subcommand is not None:
        return
    from entobot.client.simulation import Plan

    plan = Plan(rate, seconds, ramp, drops, storm_every, approvals, slow)
    run = _Run(place(context).home, credentials, devices, seed, keep=keep, is_owned=owned, as_json=as_json)
    summary = asyncio.run(run.simulate(plan))
    if as_json:
        say(json.dumps(summary.to_json(), indent=2))
    else:
        _print(summary)
    if not summary.is_good:
        raise typer.Exit(Exit.REFUSED)


class _Run:
    def __init__(
        self,
        home: Path,
        credentials: Path | None,
        devices: int,
        seed: str | None,
        *,
        keep: bool,
        is_owned: bool,
        as_json: bool,
    ) -> None:
        self._home = home
        self._credentials = credentials
        self._count = devices
        self._seed = seed
        self._keep = keep
        self._is_owned = is_owned
        self._as_json = as_json

    async def simulate(self, plan: "Plan") -> "Summary":
        import random  # noqa: TID251  a sequence that a seed repeats is what a simulation wants

        from entobot.client.simulation import Simulation, new_seed
        from entobot.core.secrets import SystemEntropy

        seed = self._seed or new_seed(SystemEntropy())
        hint(f"seed {seed}")
        async with self._identities() as identities:
            simulation = Simulation(identities, plan, random.Random(seed))  # noqa: S311  for pauses and choices, no secret
            with _progress(simulation, self._count, is_shown=not self._as_json and sys.stderr.isatty()) as show:
                return await simulation.run(show)

    @asynccontextmanager
    async def _identities(self) -> "AsyncGenerator[dict[str, Identity]]":
        if self._credentials is not None:
            identities = await asyncio.to_thread(_prepared, self._credentials, self._count)
            for identity in identities.values():
                _require_here(identity.origin, is_owned=self._is_owned)
            yield identities
            return
        identities: dict[str, Identity] = {}
        try:
            await self._pair(identities)
            yield identities
        finally:
            if not self._keep:
                await asyncio.to_thread(_revoke, self._home, identities)

    async def _pair(self, identities: "dict[str, Identity]") -> None:
        from entobot.client.terminal import pair_here

        for number in range(self._count):
            name = f"{LABEL} {number + 1}"
            if not self._as_json and number % 50 == 0:
                hint(f"pairing {number + 1} of {self._count} …")
            identities[name] = await pair_here(self._home, name)


def _prepared(folder: Path, count: int) -> "dict[str, Identity]":
    """Up to `count` of the folder's devices. Tokens are not stored back: each is refreshed from what the file holds."""
    from entobot.client.identity import IdentityFile

    found = {file.stem: IdentityFile(file).load() for file in sorted(folder.glob("*.json"))[:count]}
    identities = {name: identity for name, identity in found.items() if identity is not None}
    if not identities:
        raise Problem(Code.NOT_FOUND, f"There is no paired device in {folder}.")
    return identities


def _require_here(origin: str, *, is_owned: bool) -> None:
    from entobot.client.reach import LOOPBACK

    if not is_owned and urlsplit(origin).hostname not in LOOPBACK:
        give_up(f"{origin} is not on this machine. If you may load it, add --i-own-this-gateway.", Exit.NOT_ALLOWED)


def _revoke(home: Path, identities: "dict[str, Identity]") -> None:
    from entobot.client.local import GatewayNotRunning, LocalGateway

    gateway = LocalGateway(home / "gateway.sock")
    for identity in identities.values():
        try:
            gateway.request("DELETE", f"/api/v1/devices/{identity.device_id}")
        except (Problem, GatewayNotRunning) as error:
            hint(f"{identity.device_id} was not revoked: {error}")


class _progress:  # noqa: N801  read as a verb
    """A bar with figures on stderr, or nothing."""

    def __init__(self, simulation: "Simulation", count: int, *, is_shown: bool) -> None:
        self._simulation = simulation
        self._count = count
        self._is_shown = is_shown

    def __enter__(self) -> Callable[[float], None]:
        if not self._is_shown:
            return lambda _: None
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._bar.start()
        task = self._bar.add_task("", total=1.0)

        def show(over: float) -> None:
            tally = self._simulation.tally
            text = (
                f"{self._simulation.connected}/{self._count} connected · {tally.sent:,} sent · "
                f"{tally.acknowledged:,} acknowledged · {tally.answered:,} answered · {tally.dropped:,} dropped"
            )
            self._bar.update(task, completed=min(1.0, over), description=text)

        return show

    def __exit__(self, *_: object) -> None:
        if self._is_shown:
            self._bar.stop()


def _print(summary: "Summary") -> None:
    rows: list[tuple[str, Any]] = [
        ("devices", summary.devices),
        ("messages", f"{summary.sent:,} sent, {summary.acknowledged:,} acknowledged, {summary.answered:,} answered"),
        ("acknowledged after", _times(summary.acknowledged_ms)),
        ("answered after", _times(summary.answered_ms)),
        ("approvals", f"{summary.decided:,} decided"),
        ("events received", f"{summary.events:,}"),
        ("connections", f"{summary.dropped:,} dropped, {summary.reconnects:,} reconnects"),
        ("closed with", _counts(summary.closes)),
        ("refused with", _counts(summary.refusals)),
        ("behind at the end", ", ".join(summary.unsettled) or "nobody"),
        ("broken promises", len(summary.violations) or "none"),
    ]
    for name, value in rows:
        say(f"{name:18}  {value}")
    for text in summary.violations[:5]:
        say(f"\n{text}")


def _times(percentiles: dict[str, float]) -> str:
    return "  ".join(f"{name} {value} ms" for name, value in percentiles.items()) or "nothing measured"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} x {code}" for code, count in sorted(counts.items())) or "nothing"
