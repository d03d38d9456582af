"""`entobot audit …`."""

from typing import Annotated, Any

import typer

from entobot.client.console import AsJson, Exit, place, say, show, table, told

app = typer.Typer(help="Read and verify the audit log.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
@told
def list_(
    context: typer.Context,
    event: Annotated[str | None, typer.Option(help="The beginning of an event's name: 'invite.'")] = None,
    subject: Annotated[str | None, typer.Option(help="The id of what was acted on.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many, newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """The newest entries."""
    asked: dict[str, Any] = {"limit": limit, "event": event, "subject": subject}
    query = {key: value for key, value in asked.items() if value is not None}
    rows = place(context).gateway.request("GET", "/api/v1/audit", params=query)["rows"]
    lines = [(str(row["seq"]), row["at"], row["event"], row["outcome"], row["subject"], _by(row)) for row in rows]
    head = ("SEQ", "AT", "EVENT", "OUTCOME", "SUBJECT", "BY")
    show(rows, as_json=as_json, human=lambda: table(lines, head, empty="No entries match."))


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
