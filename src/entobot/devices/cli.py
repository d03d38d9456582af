"""`entobot devices …`."""

import json
from typing import Annotated, Any

import typer

from entobot.client.console import AsJson, Topics, hint, only, place, say, show, table, told
from entobot.core.topic_limits import limits_of_words, words_of_limits

app = typer.Typer(help="List devices, add API keys, and rename, suspend, reactivate or revoke them.", no_args_is_help=True, rich_markup_mode=None)  # fmt: skip

Name = Annotated[str, typer.Argument(help="The device's id, its end, or its name.")]


@app.command("list")
@told
def list_(
    context: typer.Context,
    status: Annotated[str | None, typer.Option(help="active, suspended or revoked.")] = None,
    as_json: AsJson = False,
) -> None:
    """Every device."""
    rows = _all(context, **({} if status is None else {"status": status}))
    head = ("DEVICE", "NAME", "PLATFORM", "HOLDS", "STATUS", "ONLINE", "SCOPES", "LAST SEEN")
    lines = [
        (
            row["device_id"],
            row["device_name"],
            row["platform"],
            "API key" if row["credential"] == "api_key" else "key",
            row["status"],
            "yes" if row["is_online"] else "no",
            " ".join(row["scopes"]),
            row["last_seen_at"] or "never",
        )
        for row in rows
    ]
    show(rows, as_json=as_json, human=lambda: table(lines, head, empty="No devices yet. Pair one with 'entobot pair'."))


@app.command("show")
@told
def show_(context: typer.Context, device: Name, as_json: AsJson = False) -> None:
    """One device."""
    row = _find(context, device)
    show(row, as_json=as_json, human=lambda: say("\n".join(f"{key}: {value}" for key, value in row.items())))


@app.command("add-key")
@told
def add_key(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What to call the board or script.")],
    scopes: Annotated[str, typer.Option(help="Separated by spaces or commas.")] = "chat",
    platform: Annotated[str, typer.Option(help="iot or desktop.")] = "iot",
    expires_in: Annotated[int | None, typer.Option(help="Seconds until the key ends. Without it: never.")] = None,
    device_type: Annotated[str, typer.Option("--type", help="What it is, as in 'thermometer'.")] = "",
    tags: Annotated[str, typer.Option(help="Separated by spaces or commas.")] = "",
    topics: Topics = "",
    as_json: AsJson = False,
    board: Annotated[
        bool, typer.Option("--board", help="Print settings.json for a board, with the key in it.")
    ] = False,
) -> None:
    """Make an API key for a board or script. It is shown once."""
    from entobot.client.boards import find_for_boards
    from entobot.devices.board_settings import board_settings

    if board:
        find_for_boards(place(context).gateway)  # before a key is made that leads nowhere
    body: dict[str, Any] = {"device_name": name, "platform": platform, "scopes": scopes.replace(",", " ").split()}
    body |= {"device_type": device_type, "tags": tags.replace(",", " ").split()}
    if topics:
        body["topics"] = limits_of_words(topics)
    if expires_in is not None:
        body["expires_in_s"] = expires_in
    made = place(context).gateway.request("POST", "/api/v1/api-keys", json=body)

    def human() -> None:
        if board:
            settings = board_settings(place(context).gateway, made["device_id"], made["api_key"])
            say(json.dumps(settings, indent=2))
        else:
            say(made["api_key"])
        until = "until it is revoked" if made["expires_at"] is None else f"until {made['expires_at']}"
        may = f"{name} is {made['device_id']} and may: {' '.join(made['scopes'])}, {until}."
        hint(f"This is shown once; keep it like a password. {may}")

    show(made, as_json=as_json, human=human)


@app.command("rotate-key")
@told
def rotate_key(
    context: typer.Context,
    device: Name,
    overlap: Annotated[int, typer.Option(help="Seconds that the earlier keys still hold.", min=0)] = 24 * 3600,
    expires_in: Annotated[
        int | None, typer.Option(help="Seconds until the new key ends. Default: as long as the last one had.", min=1)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make another API key for a device. It is shown once; the earlier ones end after the overlap."""
    row = _find(context, device)
    body: dict[str, Any] = {"overlap_s": overlap} | ({} if expires_in is None else {"expires_in_s": expires_in})
    made = place(context).gateway.request("POST", _path(row) + "/api-keys", json=body)

    def human() -> None:
        say(made["api_key"])
        when = "at once" if overlap == 0 else f"in {overlap} seconds"
        hint(f"This is shown once; keep it like a password. The earlier keys of {row['device_name']} end {when}.")

    show(made, as_json=as_json, human=human)


@app.command()
@told
def keys(context: typer.Context, device: Name, as_json: AsJson = False) -> None:
    """The API keys and certificates of a device: until when each holds, and when it was used last."""
    rows = place(context).gateway.request("GET", _path(_find(context, device)) + "/credentials")["rows"]
    lines = [
        (
            row["credential_id"],
            row["kind"],
            row["state"],
            row["expires_at"] or "no end",
            row["last_used_at"] or "never",
            words_of_limits(row["topics"]),
        )
        for row in rows
    ]
    head = ("ID", "KIND", "STATE", "UNTIL", "LAST USED", "TOPICS")
    show(
        rows, as_json=as_json, human=lambda: table(lines, head, empty="It holds a key pair of its own, and no API key.")
    )


@app.command("revoke-key")
@told
def revoke_key(
    context: typer.Context,
    device: Name,
    credential: Annotated[str, typer.Argument(help="The key's id or its end, as 'devices keys' shows it.")],
    as_json: AsJson = False,
) -> None:
    """End one key or certificate of a device, felt at once; what else it holds stays."""
    row = _find(context, device)
    held = place(context).gateway.request("GET", _path(row) + "/credentials")["rows"]
    which = only(held, credential, "credential_id")["credential_id"]
    left = place(context).gateway.request("DELETE", f"{_path(row)}/credentials/{which}")["rows"]
    show(left, as_json=as_json, human=lambda: say(f"{which} of {row['device_name']} is revoked."))


@app.command("limit-key")
@told
def limit_key(
    context: typer.Context,
    device: Name,
    key: Annotated[str, typer.Argument(help="The key's id or its end, as 'devices keys' shows it.")],
    topics: Topics = "",
    as_json: AsJson = False,
) -> None:
    """Limit one key to topics, felt at once by whoever is connected with it; without --topics: not any more."""
    row = _find(context, device)
    held = place(context).gateway.request("GET", _path(row) + "/credentials")["rows"]
    which = only(held, key, "credential_id")["credential_id"]
    path = f"{_path(row)}/credentials/{which}/topics"
    left = place(context).gateway.request("PUT", path, json=limits_of_words(topics))["rows"]
    said = words_of_limits(only(left, which, "credential_id")["topics"])
    text = f"{which} of {row['device_name']} is limited to {said}." if said else f"{which} is not limited any more."
    show(left, as_json=as_json, human=lambda: say(text))


@app.command()
@told
def rename(context: typer.Context, device: Name, name: str, as_json: AsJson = False) -> None:
    """Give a device another name."""
    row = _find(context, device)
    changed = place(context).gateway.request("PATCH", _path(row), json={"device_name": name})
    show(changed, as_json=as_json, human=lambda: say(f"{row['device_name']} is now called {changed['device_name']}."))


@app.command()
@told
def label(
    context: typer.Context,
    device: Name,
    device_type: Annotated[str | None, typer.Option("--type", help="What it is; '' for none.")] = None,
    tags: Annotated[str | None, typer.Option(help="All of them, separated by spaces or commas; '' for none.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a device is: the words by which policies know it. What is left out stays."""
    row = _find(context, device)
    body = {"device_type": device_type, "tags": None if tags is None else tags.replace(",", " ").split()}
    changed = place(context).gateway.request("PUT", _path(row) + "/labels", json=body)
    words = ", ".join(filter(None, (changed["device_type"], *changed["tags"]))) or "no labels"
    show(changed, as_json=as_json, human=lambda: say(f"{changed['device_name']}: {words}."))


@app.command()
@told
def suspend(context: typer.Context, device: Name, as_json: AsJson = False) -> None:
    """Shut a device out until it is reactivated; felt at once."""
    _change(context, device, "POST", "/suspend", "is suspended. Undo it with 'entobot devices reactivate'.", as_json)


@app.command()
@told
def reactivate(context: typer.Context, device: Name, as_json: AsJson = False) -> None:
    """Let a suspended device in again."""
    _change(context, device, "POST", "/reactivate", "is active again.", as_json)


@app.command()
@told
def revoke(context: typer.Context, device: Name, as_json: AsJson = False) -> None:
    """Cut a device off for good; felt at once. It has to pair again with a new key."""
    _change(context, device, "DELETE", "", "is revoked. Its key is never accepted again.", as_json)


def _change(context: typer.Context, device: str, method: str, verb: str, text: str, as_json: bool) -> None:
    row = _find(context, device)
    changed = place(context).gateway.request(method, _path(row) + verb)
    show(changed or {"device_id": row["device_id"]}, as_json=as_json, human=lambda: say(f"{row['device_name']} {text}"))


def _path(row: dict[str, Any]) -> str:
    return f"/api/v1/devices/{row['device_id']}"


def _all(context: typer.Context, **parameters: str) -> list[dict[str, Any]]:
    return place(context).gateway.pages("/api/v1/devices", **parameters)


def _find(context: typer.Context, name: str) -> dict[str, Any]:
    return only(_all(context), name, "device_id", "device_name")
