"""`entobot alerts …`."""

from typing import Annotated, Any

import typer

from entobot.client.console import AsJson, Exit, only, place, say, show, table, told

app = typer.Typer(help="See what the gateway warns of, and whom it tells.", no_args_is_help=True, rich_markup_mode=None)
AT = "/api/v1/alerts"


@app.command("list")
@told
def list_(
    context: typer.Context,
    state: Annotated[str | None, typer.Option(help="open, firing, acknowledged or cleared.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many, newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """The newest alerts, and who was told of them."""
    query = {"limit": limit} | ({} if state is None else {"state": state})
    rows = place(context).gateway.request("GET", AT, params=query)["rows"]
    lines = [
        (row["alert_id"], row["state"], row["severity"], row["last_at"], _title(row), _told(row["messages"]))
        for row in rows
    ]
    head = ("ALERT", "STATE", "SEVERITY", "LAST SEEN", "WHAT", "TOLD")
    show(rows, as_json=as_json, human=lambda: table(lines, head, empty="No alerts."))


@app.command()
@told
def ack(
    context: typer.Context,
    alert: Annotated[str, typer.Argument(help="The alert's id, its last characters, or its rule.")],
    as_json: AsJson = False,
) -> None:
    """Say that you have taken it up."""
    gateway = place(context).gateway
    row = only(gateway.request("GET", AT, params={"state": "open", "limit": 200})["rows"], alert, "alert_id", "rule")
    done = gateway.request("POST", f"{AT}/{row['alert_id']}/acknowledge")
    show(done, as_json=as_json, human=lambda: say(f"Acknowledged: {done['title']}. {done['fix']}"))


@app.command()
@told
def rules(context: typer.Context, as_json: AsJson = False) -> None:
    """What is looked at, and where each rule fires."""
    rows = place(context).gateway.request("GET", f"{AT}/rules")["rows"]
    lines = [(row["id"], row["severity"], _limit(row), row["what"]) for row in rows]
    head = ("RULE", "SEVERITY", "FIRES AT", "WHAT")
    show(rows, as_json=as_json, human=lambda: table(lines, head, empty="No rules."))


@app.command()
@told
def channels(context: typer.Context, as_json: AsJson = False) -> None:
    """Who is told, and whether that works."""
    rows = place(context).gateway.request("GET", f"{AT}/channels")["rows"]
    lines = [
        (
            row["name"],
            row["kind"],
            row["place"],
            row["state"],
            str(row["queued"]),
            _reason(row),
        )
        for row in rows
    ]
    head = ("CHANNEL", "KIND", "PLACE", "STATE", "QUEUED", "REASON")
    show(
        rows,
        as_json=as_json,
        human=lambda: table(lines, head, empty="No channels. Add them to the settings: docs/how-to/alerts.md."),
    )


@app.command("test")
@told
def try_(
    context: typer.Context,
    channel: Annotated[str, typer.Argument(help="The channel's name.")],
    as_json: AsJson = False,
) -> None:
    """Send a test to a channel now, and wait for what becomes of it."""
    done = place(context).gateway.request("POST", f"{AT}/channels/{channel}/test")
    text = f"Sent to {channel}." if done["state"] == "sent" else f"Not sent to {channel}: {done['reason']}."
    show(done, as_json=as_json, human=lambda: say(text))
    if done["state"] != "sent":
        raise typer.Exit(Exit.REFUSED)


def _title(row: dict[str, Any]) -> str:
    return " ".join(part for part in (row["title"], row["subject"], f"({row['node']})" if row["node"] else "") if part)


def _told(messages: list[dict[str, Any]]) -> str:
    return ", ".join(f"{one['channel']}: {one['kind']} {one['state']}" for one in messages)


def _reason(row: dict[str, Any]) -> str:
    return "" if row["last"] is None else row["last"]["reason"]


def _limit(row: dict[str, Any]) -> str:
    if not row["enabled"]:
        return "off"
    sign = "≤" if row["is_low"] else "≥"
    window = f" within {row['window_s']:g} s" if row["watches"] in ("log", "metric") else f" for {row['window_s']:g} s"
    return f"{sign} {row['threshold']:g} {row['unit']}".rstrip() + (window if row["window_s"] else "")
