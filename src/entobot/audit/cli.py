"""`entobot audit …`."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from entobot.client.console import AsJson, Exit, Place, give_up, place, say, show, table, told

app = typer.Typer(help="Read and verify the audit log.", no_args_is_help=True, rich_markup_mode=None)


Actor = Annotated[str | None, typer.Option(help="A user id or a device id: who did it.")]
Event = Annotated[str | None, typer.Option(help="An event's name, or its beginning: 'invite.'")]
OutcomeIs = Annotated[str | None, typer.Option("--outcome", help="success, denied or failure.")]
Since = Annotated[str | None, typer.Option(help="RFC 3339 (2026-11-20T09:30:00Z): this instant and later.")]
Subject = Annotated[str | None, typer.Option(help="The id of what was acted on.")]
Text = Annotated[str | None, typer.Option(help="Stands in the name, an id, a fact or a personal value.")]
Until = Annotated[str | None, typer.Option(help="RFC 3339: before this instant.")]


@app.command("list")
@told
def list_(
    context: typer.Context,
    event: Event = None,
    subject: Subject = None,
    actor: Actor = None,
    outcome: OutcomeIs = None,
    since: Since = None,
    until: Until = None,
    text: Text = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many, newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """The newest entries that match."""
    query = _given(event=event, subject=subject, actor=actor, outcome=outcome, since=since, until=until, text=text)
    rows = _newest(place(context), query, limit)
    lines = [(str(row["seq"]), row["at"], row["event"], row["outcome"], row["subject"], _by(row)) for row in rows]
    head = ("SEQ", "AT", "EVENT", "OUTCOME", "SUBJECT", "BY")
    show(rows, as_json=as_json, human=lambda: table(lines, head, empty="No entries match."))


def _given(**asked: Any) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if value is not None}


def _newest(where: Place, query: dict[str, Any], limit: int) -> list[dict[str, Any]]:
    """A page looks at a bounded number of entries: ask on until there are `limit`, or no more."""
    rows: list[dict[str, Any]] = []
    cursor: dict[str, Any] = {}
    while len(rows) < limit:
        page = where.gateway.request("GET", "/api/v1/audit", params={**query, **cursor, "limit": limit - len(rows)})
        rows += page["rows"]
        if page["next"] is None:
            break
        cursor = {"before": page["next"]}
    return rows


@app.command()
@told
def verify(
    context: typer.Context,
    files: Annotated[list[Path] | None, typer.Argument(help="Exported files or segments, oldest first.")] = None,
    key: Annotated[str | None, typer.Option(help="The verifier key, or a file with it.")] = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="A file of checkpoints that was kept elsewhere.")
    ] = None,
    complete: Annotated[
        bool, typer.Option("--complete", help="The files must reach to the newest checkpoint.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Walk the whole log and name the first entry that was changed, removed or cut off.

    Without files: the log of the running gateway. With them: these files, which needs no gateway and no data folder.
    """
    from entobot.audit.cli_verify import verify_offline, verify_online

    if files:
        is_good = verify_offline(files, key, checkpoint or [], is_complete=complete, as_json=as_json)
    elif key or checkpoint or complete:
        give_up("--key, --checkpoint and --complete are for files: name them.", Exit.USAGE)
    else:
        is_good = verify_online(place(context), as_json=as_json)
    if not is_good:
        raise typer.Exit(Exit.REFUSED)


@app.command()
@told
def checkpoint(context: typer.Context, as_json: AsJson = False) -> None:
    """A signed checkpoint of the log as it is now, and the key that verifies it. Keep both away from this machine."""
    from entobot.audit.cli_verify import tell_checkpoint

    found = place(context).gateway.request("GET", "/api/v1/audit/checkpoint")
    show(found, as_json=as_json, human=lambda: tell_checkpoint(found))


@app.command()
@told
def export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Written anew, readable by you alone; '-' is standard output.")],
    format_: Annotated[str, typer.Option("--format", help="jsonl or csv. jsonl can be verified offline.")] = "jsonl",
    after: Annotated[int | None, typer.Option(min=0, help="The chain from behind this entry.")] = None,
    event: Event = None,
    subject: Subject = None,
    actor: Actor = None,
    outcome: OutcomeIs = None,
    since: Since = None,
    until: Until = None,
    text: Text = None,
) -> None:
    """Write the log to a file: all of it, or with filters a selection. This is recorded in the log."""
    query = _given(event=event, subject=subject, actor=actor, outcome=outcome, since=since, until=until, text=text)
    asked = {"format": format_, **query, **_given(after=after)}
    with place(context).gateway.stream("/api/v1/audit/export", **asked) as pieces:
        size = _write(file, pieces)
    if str(file) != "-":
        say(f"Written to {file}: {size} bytes.")


def _write(file: Path, pieces: Iterator[bytes]) -> int:
    if str(file) == "-":
        return sum(sys.stdout.buffer.write(piece) for piece in pieces)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as output:
        os.fchmod(descriptor, 0o600)
        return sum(output.write(piece) for piece in pieces)


def _by(row: dict[str, Any]) -> str:
    actor = row["actor"]
    return "gateway" if actor is None else actor["device_id"] or actor["user_id"]
