"""`entobot notify …` and `entobot notifications …`."""

from typing import Annotated, Any

import typer

from entobot.client.console import AsJson, Exit, hint, only, place, say, show, table, told

app = typer.Typer(
    help="See what people are told, and how they are reached.", no_args_is_help=True, rich_markup_mode=None
)
AT = "/api/v1/notifications"
PlaceId = Annotated[str, typer.Argument(help="The place's id, or its last characters.")]


@told
def notify(
    context: typer.Context,
    title: Annotated[str, typer.Argument(help="One line.")],
    body: Annotated[str, typer.Option(help="More text.")] = "",
    to: Annotated[str | None, typer.Option(help="A person's login or id; without it: the owner.")] = None,
    role: Annotated[str | None, typer.Option(help="Everybody of a role instead.")] = None,
    priority: Annotated[str, typer.Option(help="low, normal, high or critical.")] = "normal",
    kind: Annotated[str, typer.Option(help="A word of yours, as people can mute it.")] = "notice",
    link: Annotated[str, typer.Option(help="A path of the phone app, or an https:// URL.")] = "",
    key: Annotated[str, typer.Option(help="A later one with the same key takes this one's place.")] = "",
    as_json: AsJson = False,
) -> None:
    """Tell a person something: on connected devices, else as their own rules say."""
    gateway = place(context).gateway
    wanted: dict[str, Any] = {"title": title, "body": body, "priority": priority, "kind": kind, "link": link}
    wanted |= {"collapse_key": key} if key else {}
    if role is not None:
        wanted["role"] = role
    elif to is not None:
        wanted["user_id"] = only(gateway.pages("/api/v1/users"), to, "user_id", "login")["user_id"]
    made = gateway.request("POST", AT, json=wanted)
    show(made, as_json=as_json, human=lambda: say(f"Posted: {', '.join(made['notification_ids'])}."))


@app.command("list")
@told
def list_(
    context: typer.Context,
    everybody: Annotated[bool, typer.Option("--all", help="Of everybody; what others were told is not shown.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many, newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """The newest notifications, and what became of each way that was tried."""
    query = {"limit": limit, "of": "all" if everybody else "me"}
    rows = place(context).gateway.request("GET", AT, params=query)["rows"]
    lines = [
        (row["notification_id"], row["created_at"], row["priority"], row["state"], row["title"], _tried(row))
        for row in rows
    ]
    head = ("NOTIFICATION", "AT", "PRIORITY", "STATE", "TITLE", "TRIED")
    show(rows, as_json=as_json, human=lambda: table(lines, head, empty="No notifications."))


@app.command()
@told
def channels(context: typer.Context, as_json: AsJson = False) -> None:
    """What can be sent by, whether it works, and what it did in the last day."""
    rows = place(context).gateway.request("GET", f"{AT}/channels")["rows"]
    lines = [
        (
            row["channel"],
            row["state"],
            row["service"],
            str(row["places"]),
            str(row["accepted"]),
            str(row["failed"] + row["unknown"]),
            row["last_reason"],
        )
        for row in rows
    ]
    head = ("CHANNEL", "STATE", "SERVICE", "PLACES", "ACCEPTED", "FAILED", "REASON")
    show(rows, as_json=as_json, human=lambda: table(lines, head, empty="No channels."))


@app.command()
@told
def places(context: typer.Context, as_json: AsJson = False) -> None:
    """Where the owner is reached."""
    rows = place(context).gateway.request("GET", f"{AT}/places")["rows"]
    lines = [(row["place_id"], row["channel"], row["shown"], _stands(row), row["reason"]) for row in rows]
    head = ("PLACE", "CHANNEL", "WHERE", "STATE", "REASON")
    empty = "No places. Subscribe in the phone app, or add one: entobot notifications add email ADDRESS."
    show(rows, as_json=as_json, human=lambda: table(lines, head, empty=empty))


@app.command()
@told
def add(
    context: typer.Context,
    channel: Annotated[str, typer.Argument(help="email, ntfy or sms.")],
    address: Annotated[str, typer.Argument(help="An e-mail address, a topic's URL, or a number as +14155550123.")],
    token_file: Annotated[
        typer.FileText | None, typer.Option(help="File with the access token of an ntfy topic.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add a place where the owner is reached. An e-mail address, or a number, is sent a code first."""
    gateway = place(context).gateway
    body = {"channel": channel, "address": address} | (
        {} if token_file is None else {"token": token_file.read().strip()}
    )
    made = gateway.request("POST", f"{AT}/places", json=body)
    sent: dict[str, Any] = {} if made["confirmed"] else gateway.request("POST", f"{AT}/places/{made['place_id']}/code")

    def human() -> None:
        say(f"Added: {made['place_id']}.")
        if sent.get("state") in ("queued", "sent"):
            hint(f"Look at what was sent there, then: entobot notifications confirm {made['place_id']} CODE")
        elif sent:
            say(f"The code was not sent: {sent['reason']}.")

    show(made | ({"code": sent} if sent else {}), as_json=as_json, human=human)


@app.command()
@told
def confirm(
    context: typer.Context,
    place_id: PlaceId,
    code: Annotated[str, typer.Argument(help="The six digits that were sent.")],
    as_json: AsJson = False,
) -> None:
    """Type the code that was sent: from then on notifications go there."""
    row = _find(context, place_id)
    done = place(context).gateway.request("POST", f"{AT}/places/{row['place_id']}/confirm", json={"code": code})
    show(done, as_json=as_json, human=lambda: say(f"{done['shown']} is confirmed."))


@app.command()
@told
def remove(context: typer.Context, place_id: PlaceId, as_json: AsJson = False) -> None:
    """Send nothing there any more."""
    row = _find(context, place_id)
    done = place(context).gateway.request("DELETE", f"{AT}/places/{row['place_id']}")
    show(done, as_json=as_json, human=lambda: say(f"Removed: {row['shown']}."))


@app.command("test")
@told
def try_(context: typer.Context, place_id: PlaceId, as_json: AsJson = False) -> None:
    """Send a test to a place now, and wait for what becomes of it."""
    row = _find(context, place_id)
    done = place(context).gateway.request("POST", f"{AT}/places/{row['place_id']}/test")
    is_good = done["state"] in ("accepted", "sent")
    text = f"Accepted by {row['shown']}." if done["state"] == "accepted" else f"On its way to {row['shown']}."
    text = text if is_good else f"Not sent: {done['reason']}."
    show(done, as_json=as_json, human=lambda: say(text))
    if not is_good:
        raise typer.Exit(Exit.REFUSED)


@app.command()
@told
def read(context: typer.Context, as_json: AsJson = False) -> None:
    """Mark all of the owner's as read."""
    done = place(context).gateway.request("POST", f"{AT}/read")
    show(done, as_json=as_json, human=lambda: say(f"Marked as read: {done['read']}."))


def _find(context: typer.Context, place_id: str) -> dict[str, Any]:
    return only(place(context).gateway.request("GET", f"{AT}/places")["rows"], place_id, "place_id")


def _tried(row: dict[str, Any]) -> str:
    return ", ".join(f"{one['channel']}: {one['state']}" for one in row["attempts"])


def _stands(row: dict[str, Any]) -> str:
    if not row["confirmed"]:
        return "not confirmed"
    return "failing" if row["reason"] else "ok" if row["last_ok_at"] else "unused"
