"""`entobot enrolment …`."""

from typing import Annotated, Any

import typer

from entobot.client.console import AsJson, Topics, hint, only, place, say, show, table, told
from entobot.core.topic_limits import limits_of_words, words_of_limits

app = typer.Typer(help="Keys with which boards enrol themselves: create, list, show, revoke.", no_args_is_help=True, rich_markup_mode=None)  # fmt: skip

KEYS = "/api/v1/enrolment-keys"
Name = Annotated[str, typer.Argument(help="The key's id, its end, or its name.")]


@app.command()
@told
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="For the list of keys.")],
    uses: Annotated[int, typer.Option(help="How many devices it makes at most.", min=1, max=10_000)] = 1,
    expires_in: Annotated[int, typer.Option(help="Seconds until it ends.", min=60)] = 24 * 3600,
    device_type: Annotated[str, typer.Option("--type", help="What the devices are, as in 'thermometer'.")] = "",
    tags: Annotated[str, typer.Option(help="Separated by spaces or commas.")] = "",
    scopes: Annotated[str, typer.Option(help="Beside their own topics; separated by spaces or commas.")] = "",
    key_life: Annotated[
        int | None, typer.Option(help="Seconds that the devices' own keys live. Default: no end.", min=3600)
    ] = None,
    topics: Topics = "",
    as_json: AsJson = False,
) -> None:
    """Make an enrolment key. It is shown once."""
    body: dict[str, Any] = {
        "name": name,
        "max_uses": uses,
        "expires_in_s": expires_in,
        "device_type": device_type,
        "tags": _words(tags),
        "scopes": _words(scopes),
    }
    if topics:
        body["topics"] = limits_of_words(topics)
    if key_life is not None:
        body["key_life_s"] = key_life
    made = place(context).gateway.request("POST", KEYS, json=body)

    def human() -> None:
        say(made["enrolment_key"])
        count = "one device" if uses == 1 else f"{uses} devices"
        hint(f"This is shown once; keep it like a password. It makes {count} until {made['expires_at']}.")

    show(made, as_json=as_json, human=human)


@app.command("list")
@told
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """Every enrolment key."""
    rows = _all(context)
    head = ("KEY", "NAME", "STATE", "DEVICES", "TYPE", "TAGS", "SCOPES", "TOPICS", "UNTIL")
    lines = [
        (
            row["key_id"],
            row["name"],
            row["state"],
            f"{row['uses']} of {row['max_uses']}",
            row["device_type"],
            " ".join(row["tags"]),
            " ".join(row["scopes"]),
            words_of_limits(row["topics"]),
            row["expires_at"],
        )
        for row in rows
    ]
    empty = "No enrolment keys. Make one with 'entobot enrolment create'."
    show(rows, as_json=as_json, human=lambda: table(lines, head, empty=empty))


@app.command("show")
@told
def show_(context: typer.Context, key: Name, as_json: AsJson = False) -> None:
    """One enrolment key, and the devices that it made."""
    row = place(context).gateway.request("GET", _path(context, key))
    head = ("DEVICE", "NAME", "STATUS", "HARDWARE", "ENROLLED")
    lines = [
        (one["device_id"], one["device_name"], one["status"], one["hardware_id"], one["enrolled_at"])
        for one in row["devices"]
    ]

    def human() -> None:
        say("\n".join(f"{name}: {value}" for name, value in row.items() if name != "devices"))
        table(lines, head, empty="It has made no device.")

    show(row, as_json=as_json, human=human)


@app.command()
@told
def revoke(
    context: typer.Context,
    key: Name,
    devices: Annotated[bool, typer.Option("--with-devices", help="And every device that it made.")] = False,
    as_json: AsJson = False,
) -> None:
    """End an enrolment key for good. What it made stays, unless --with-devices."""
    query = "?devices=true" if devices else ""
    row = place(context).gateway.request("DELETE", _path(context, key) + query)
    text = f"{row['name']} is revoked" + (", and so is every device that it made." if devices else ".")
    show(row, as_json=as_json, human=lambda: say(text))


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _all(context: typer.Context) -> list[dict[str, Any]]:
    return place(context).gateway.request("GET", KEYS)["rows"]


def _path(context: typer.Context, name: str) -> str:
    return f"{KEYS}/{only(_all(context), name, 'key_id', 'name')['key_id']}"
