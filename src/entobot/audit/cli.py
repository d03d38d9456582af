"""`entobot audit …`."""

from typing import Annotated, Any

import typer

from entobot.client.console import AsJson, Exit, Place, place, say, show, table, told

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
def verify(context: typer.Context, as_json: AsJson = False) -> None:
    """Walk the whole log and name the first entry that was changed, removed or cut off."""
    found = place(context).gateway.request("GET", "/api/v1/audit/verify")
    show(found, as_json=as_json, human=lambda: _tell(found))
    if not found["ok"]:
        raise typer.Exit(Exit.REFUSED)


def _tell(found: dict[str, Any]) -> None:
    if found["ok"]:
        say(f"{found['checked']} entries, whole and in order. Signed up to entry {found['signed_seq'] or 0}.")
    else:
        finding = found["finding"]
        say(f"The log was altered at entry {finding['seq']} ({finding['kind']}): {finding['detail']}")


def _by(row: dict[str, Any]) -> str:
    actor = row["actor"]
    return "gateway" if actor is None else actor["device_id"] or actor["user_id"]
