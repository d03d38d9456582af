"""`entobot mqtt …`."""

from typing import Any

import typer

from entobot.client.console import AsJson, place, say, show, table, told
from entobot.core.errors import Code, Problem

app = typer.Typer(help="MQTT to and from other brokers.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _() -> None:  # pyright: ignore[reportUnusedFunction]  one command alone would take the group's place
    """MQTT to and from other brokers."""


@app.command()
@told
def bridges(context: typer.Context, as_json: AsJson = False) -> None:
    """Brokers elsewhere that the gateway connects to: how each is, and what to do about it."""
    rows = place(context).gateway.request("GET", "/api/v1/mqtt/bridges")["rows"]
    show(rows, as_json=as_json, human=lambda: _print(rows))


@app.command()
@told
def edge(context: typer.Context, as_json: AsJson = False) -> None:
    """The public key by which this gateway signs for a nats-server with boards: its 'issuer'."""
    from entobot.core.secrets import SystemEntropy
    from entobot.home import Home, Purpose
    from entobot.mqtt.edge_words import Issuer

    home = Home(place(context).home)
    if not (home.keys / "server.key").exists():
        raise Problem(Code.NOT_FOUND, "This gateway has no keys yet. Start it once with 'entobot up'.")
    issuer = Issuer(home.server_keys(SystemEntropy()).key(Purpose.EDGE)).public
    show({"issuer": issuer}, as_json=as_json, human=lambda: say(issuer))


def _print(rows: list[dict[str, Any]]) -> None:
    head = ("BRIDGE", "IS", "SINCE", "TAKEN", "TOLD", "WAITING", "DROPPED", "REFUSED")
    lines = [
        (
            row["name"],
            row["state"],
            row["since"] or "never",
            *(f"{row[what]:,}" for what in ("taken", "told", "waiting", "dropped", "refused")),
        )
        for row in rows
    ]
    table(lines, head, empty="No bridges. See docs/how-to/bridge-a-broker.md.")
    for row in rows:
        if row["error"]:
            say(f"{row['name']}: {row['error']}")
        if row["refused"]:
            say(f"{row['name']}: refused last, at {row['refused_at']}: {row['refused_why']}")
