"""`entobot simulate things`: boards that are not there, for demonstrations, load and tests."""

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from entobot.client.console import AsJson, Exit, hint, place, say, show, told
from entobot.core.errors import Code, Problem

if TYPE_CHECKING:
    from entobot.client.local import LocalGateway
    from entobot.mqtt.simulation import Account, Plan, Simulation, Summary

LABEL = "Simulated thing"
KINDS = ("thermometer", "meter", "motion", "lock")


@told
def simulate_things(
    context: typer.Context,
    things: Annotated[int, typer.Option(help="How many.", min=1, max=1000)] = 10,
    kinds: Annotated[str, typer.Option(help="Which, in turn, separated by spaces or commas.")] = " ".join(KINDS),
    every: Annotated[float, typer.Option(help="Seconds between two readings of one.", min=0.05, max=3600)] = 5.0,
    seconds: Annotated[float, typer.Option(help="How long they tell readings.", min=1, max=86_400)] = 30.0,
    drops: Annotated[float, typer.Option(help="Connections lost a second, of all together.", min=0, max=1000)] = 0.0,
    malice: Annotated[float, typer.Option(help="Share that tries what it may not.", min=0, max=1)] = 0.0,
    keep: Annotated[bool, typer.Option("--keep", help="Do not revoke them at the end.")] = False,
    seed: Annotated[str | None, typer.Option(help="Repeats the choices of an earlier run.")] = None,
    as_json: AsJson = False,
) -> None:
    """Connect boards by MQTT to the gateway of the data folder: they tell readings and obey commands.

    What some of them try with --malice is counted; the run fails where any of it succeeds, or where a reading was not
    acknowledged at the end.
    """
    from entobot.mqtt.simulation import Plan

    wanted = kinds.replace(",", " ").split()
    if not wanted or set(wanted) - set(KINDS):
        raise Problem(Code.INVALID, f"Kinds of things are: {', '.join(KINDS)}.")
    plan = Plan(every_s=every, duration_s=seconds, drops=drops, malice=malice)
    gateway = place(context).gateway
    accounts: list[Account] = []
    try:
        _enrol(gateway, accounts, [wanted[n % len(wanted)] for n in range(things)])
        summary = asyncio.run(_run(gateway, accounts, plan, seed, is_shown=not as_json and sys.stderr.isatty()))
    finally:
        if not keep:
            _revoke(gateway, accounts)
    show(summary.to_json(), as_json=as_json, human=lambda: _print(summary))
    if not summary.is_good:
        raise typer.Exit(Exit.REFUSED)


def _enrol(gateway: "LocalGateway", accounts: "list[Account]", kinds: list[str]) -> None:
    from entobot.client.boards import find_for_boards
    from entobot.mqtt.simulation import Account

    find_for_boards(gateway)  # before keys are made that lead nowhere
    for number, kind in enumerate(kinds, 1):
        body = {"device_name": f"{LABEL} {number} ({kind})", "platform": "iot", "scopes": ["chat"]}
        made: dict[str, Any] = gateway.request("POST", "/api/v1/api-keys", json=body)
        accounts.append(Account(made["device_id"], made["api_key"], kind))


async def _run(
    gateway: "LocalGateway", accounts: "list[Account]", plan: "Plan", seed: str | None, *, is_shown: bool
) -> "Summary":
    import random  # noqa: TID251  a sequence that a seed repeats is what a simulation wants

    from entobot.client.boards import find_for_boards
    from entobot.client.trust import Trust
    from entobot.core.clock import SystemClock
    from entobot.core.secrets import SystemEntropy, b64u
    from entobot.mqtt.simulation import Place, Simulation

    seed = seed or b64u(SystemEntropy().bytes(6))
    hint(f"seed {seed}")
    found = await asyncio.to_thread(find_for_boards, gateway)
    trust = await Trust(pin=found.pin).context(found.host, found.mqtt_port)
    where = Place(found.host, found.mqtt_port, trust, found.max_retained)
    simulation = Simulation(accounts, where, plan, SystemClock(), random.Random(seed))  # noqa: S311  for pauses and choices, no secret
    return await simulation.run(_progress(simulation) if is_shown else lambda _: None)


def _progress(simulation: "Simulation") -> Callable[[float], None]:
    def show_line(over: float) -> None:
        summary = simulation.summary
        text = (
            f"{over:4.0%}  {simulation.connected} connected · {summary.readings:,} readings · "
            f"{summary.acknowledged:,} acknowledged · {summary.commands:,} commands · "
            f"{sum(summary.refused.values()):,} refused"
        )
        end = "\n" if over >= 1 else ""
        sys.stderr.write(f"\r{text}\x1b[K{end}")
        sys.stderr.flush()

    return show_line


def _revoke(gateway: "LocalGateway", accounts: "list[Account]") -> None:
    from entobot.client.local import GatewayNotRunning

    for account in accounts:
        try:
            gateway.request("DELETE", f"/api/v1/devices/{account.device_id}")
        except (Problem, GatewayNotRunning) as error:
            hint(f"{account.device_id} was not revoked: {error}")


def _print(summary: "Summary") -> None:
    times = "  ".join(f"{name} {value} ms" for name, value in summary.acknowledged_ms.items()) or "nothing measured"
    refused = ", ".join(f"{count} x {what}" for what, count in sorted(summary.refused.items())) or "nothing was tried"
    rows: list[tuple[str, Any]] = [
        ("things", f"{summary.things:,}, {summary.malicious:,} of them malicious"),
        ("readings", f"{summary.readings:,} told, {summary.acknowledged:,} acknowledged, {summary.batches:,} batches"),
        ("acknowledged after", times),
        ("commands", f"{summary.commands:,} obeyed"),
        ("connections", f"{summary.dropped:,} dropped, {summary.reconnects:,} reconnects"),
        ("refused", refused),
        ("behind at the end", ", ".join(summary.unsettled) or "nobody"),
        ("malice that worked", "; ".join(summary.violations) or "none"),
    ]
    for name, value in rows:
        say(f"{name:18}  {value}")
