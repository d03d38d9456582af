"""`entobot cert …` and `entobot db …`."""

import asyncio
import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from entobot.client.console import AsJson, Exit, give_up, hint, place, say, show, table, told

certificate = typer.Typer(help="Look at the certificate, and renew it.", no_args_is_help=True, rich_markup_mode=None)
store = typer.Typer(help="Look after the store: SQLite or PostgreSQL.", no_args_is_help=True, rich_markup_mode=None)


PATIENCE_S = 300.0
_ASK_AGAIN_S = 0.5


@store.command()
@told
def check(context: typer.Context, as_json: AsJson = False) -> None:
    """What the store is, and whether it keeps what it takes. Touches nothing."""
    from entobot.app import store_check
    from entobot.home import Home
    from entobot.sources import load, system_environment

    home = Home(place(context).home)
    findings = asyncio.run(store_check.check(home, load(home.path, system_environment()).storage))
    if as_json:
        say(json.dumps([finding.to_json() for finding in findings], indent=2))
    else:
        for finding in findings:
            say(finding.to_text())
    if any(finding.is_failure for finding in findings):
        raise typer.Exit(Exit.REFUSED)


@store.command()
@told
def migrate(context: typer.Context) -> None:
    """Bring the schema to this version's. The gateway does so by itself at each start."""
    from entobot.app import moving
    from entobot.home import Home
    from entobot.sources import load, system_environment

    home = Home(place(context).home)
    say(asyncio.run(moving.migrate(home, load(home.path, system_environment()).storage)))


@store.command()
@told
def copy(
    context: typer.Context,
    to: Annotated[
        str | None, typer.Option(help="postgresql://… of an empty database, without a password. Else storage.url.")
    ] = None,
    to_file: Annotated[
        Path | None, typer.Option(help="File that holds that address; it may have a password.", dir_okay=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy the data folder's SQLite into an empty PostgreSQL database, and prove that nothing is missing."""
    from pydantic import SecretStr
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from entobot.app import moving
    from entobot.core.errors import StartupRefused
    from entobot.home import Home
    from entobot.sources import load, system_environment

    home = Home(place(context).home)
    storage = load(home.path, system_environment()).storage
    if to_file is not None:
        to = to_file.read_text("utf-8").strip()
    elif to is not None and ":" in to.partition("://")[2].rpartition("@")[0]:
        raise StartupRefused("A password on the command line is seen by everybody: use --to-file, or PGPASSWORD.")
    if to is not None:
        storage = storage.model_copy(update={"url": SecretStr(to)})
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), disable=as_json) as bar:
        task = bar.add_task("", total=None)
        moved = asyncio.run(
            moving.copy(
                home,
                storage,
                lambda name, done, total: bar.update(task, description=name, completed=done, total=total),
            )
        )
    if as_json:
        say(json.dumps(moved.to_json(), indent=2))
        return
    rows = [(one.table, str(one.rows), one.digest[:16]) for one in moved.tables]
    table(rows, ("TABLE", "ROWS", "SHA-256 OF BOTH"), empty="No tables.")
    say(f"{moved.target} holds all of it; {moved.audit_entries} audit entries, whole and in order.")
    hint("Set storage.url to it and start the gateway. Never start one on the old SQLite file again: move it away.")


@certificate.command()
@told
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Which certificate is served, until when, and what went wrong last."""
    state = place(context).gateway.request("GET", "/api/v1/certificate")
    show(state, as_json=as_json, human=lambda: say("\n".join(_lines(state))))


@certificate.command()
@told
def renew(context: typer.Context, as_json: AsJson = False) -> None:
    """Get a new certificate now, or read the given files again; waits until it is done."""
    gateway = place(context).gateway
    state = gateway.request("POST", "/api/v1/certificate/renew")
    if not as_json:
        hint("Asked for. This can take a minute …")
    until = time.monotonic() + PATIENCE_S
    while state["is_renewing"]:
        if time.monotonic() > until:
            give_up("It is not done yet. See 'entobot cert status'.", Exit.GAVE_UP)
        time.sleep(_ASK_AGAIN_S)
        state = gateway.request("GET", "/api/v1/certificate")
    show(state, as_json=as_json, human=lambda: say("\n".join(_lines(state))))
    if state["last_error"] is not None:
        raise typer.Exit(Exit.REFUSED)


def _lines(state: dict[str, Any]) -> list[str]:
    if state["source"] is None:
        return ["No certificate: tls.mode is 'off'."]
    rows = [
        ("Mode", state["mode"]),
        ("Served", _SOURCES[state["source"]]),
        ("Names", ", ".join(state["names"])),
        ("Issuer", state["issuer"]),
        ("SHA-256", state["fingerprint"]),
        ("Until", state["not_after"]),
        ("Renewal", "now" if state["is_renewing"] else state["renews_at"] or "by whoever renews the files"),
    ]
    if (error := state["last_error"]) is not None:
        rows.append(("Last try", f"failed at {error['at']}: {error['detail']}"))
    return [f"{name:<9}{value}" for name, value in rows]


_SOURCES = {
    "acme": "a public one, ordered by this gateway",
    "given": "the given files",
    "local-ca": "one of this gateway's own authority",
}
