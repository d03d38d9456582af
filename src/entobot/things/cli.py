"""`entobot things …`."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from entobot.client.console import AsJson, Exit, give_up, only, place, say, show, table, told

app = typer.Typer(help="See what boards read, and tell them what to do.", no_args_is_help=True, rich_markup_mode=None)
types = typer.Typer(help="What boards of a kind read and do.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(types, name="types")
AT = "/api/v1/things"
TYPES = "/api/v1/thing-types"
DONE = {"done": 0, "queued": 0, "accepted": 0}

Name = Annotated[str, typer.Argument(help="The device's id, its end, or its name.")]


@app.command("list")
@told
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """Every thing, and how it is."""
    rows = _all(context)
    lines = [
        (row["device_id"], row["name"], row["type"] or "", row["status"], _readings(row), row["heard_at"] or "never")
        for row in rows
    ]
    head = ("DEVICE", "NAME", "TYPE", "STATUS", "READINGS", "HEARD")
    show(rows, as_json=as_json, human=lambda: table(lines, head, empty="No things yet. See docs/how-to/things.md."))


@app.command("show")
@told
def show_(context: typer.Context, thing: Name, as_json: AsJson = False) -> None:
    """One thing: each reading, its commands, and what happened."""
    row = place(context).gateway.request("GET", _path(_find(context, thing)))
    show(row, as_json=as_json, human=lambda: _show(row))


@app.command()
@told
def history(
    context: typer.Context,
    thing: Name,
    reading: Annotated[str, typer.Argument(help="Its name, as 'things show' tells it.")],
    hours: Annotated[float, typer.Option(min=0.01, help="How far back.")] = 24,
    points: Annotated[int, typer.Option(min=1, max=500, help="At most about so many lines.")] = 48,
    as_json: AsJson = False,
) -> None:
    """How a reading was."""
    since = datetime.now(UTC) - timedelta(hours=hours)  # noqa: TID251  of this computer, as the person means it
    query = {"reading": reading, "since": since.isoformat(), "points": points}
    found = place(context).gateway.request("GET", f"{_path(_find(context, thing))}/history", params=query)
    lines = [(one["at"], *_point(one)) for one in found["rows"]]
    head = ("FROM", "LEAST", "MEAN", "GREATEST")
    show(found, as_json=as_json, human=lambda: table(lines, head, empty="Nothing was read then."))


@app.command()
@told
def command(
    context: typer.Context,
    thing: Name,
    name: Annotated[str, typer.Argument(help="As 'things show' tells it.")],
    args: Annotated[list[str] | None, typer.Argument(help="NAME=VALUE; a value is JSON, or text.")] = None,
    wait: Annotated[float, typer.Option(min=0, max=30, help="Seconds to wait for its end.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Make a thing do something, now or when it returns."""
    body = {"name": name, "args": dict(map(_arg, args or [])), "wait_s": wait}
    row = _find(context, thing)
    done = place(context).gateway.request("POST", f"{_path(row)}/commands", json=body)
    show(done, as_json=as_json, human=lambda: say(_outcome(row, done)))
    if done["state"] not in DONE:
        raise typer.Exit(Exit.REFUSED)


@app.command()
@told
def commands(context: typer.Context, thing: Name, as_json: AsJson = False) -> None:
    """What a thing was told to do, and what became of it."""
    rows = place(context).gateway.request("GET", f"{_path(_find(context, thing))}/commands")["rows"]
    lines = [
        (
            one["command_id"],
            one["made_at"],
            one["name"],
            json.dumps(one["args"], ensure_ascii=False),
            one["via"],
            one["state"],
            one["error"] or ("" if one["result"] is None else json.dumps(one["result"], ensure_ascii=False)),
        )
        for one in rows
    ]
    head = ("COMMAND", "AT", "NAME", "ARGS", "VIA", "STATE", "RESULT")
    show(rows, as_json=as_json, human=lambda: table(lines, head, empty="No commands yet."))


@app.command()
@told
def cancel(
    context: typer.Context,
    thing: Name,
    which: Annotated[str, typer.Argument(metavar="COMMAND", help="The command's id, or its end.")],
    as_json: AsJson = False,
) -> None:
    """Take a command back that waits."""
    at = f"{_path(_find(context, thing))}/commands"
    gateway = place(context).gateway
    row = only(gateway.request("GET", at, params={"limit": 100})["rows"], which, "command_id")
    done = gateway.request("DELETE", f"{at}/{row['command_id']}")
    show(done, as_json=as_json, human=lambda: say(f"{done['name']} is cancelled."))


@app.command("set-type")
@told
def set_type(
    context: typer.Context,
    device: Name,
    type_name: Annotated[str, typer.Argument(metavar="TYPE", help="A type's name, or '-' for none.")],
    as_json: AsJson = False,
) -> None:
    """Say of which type a device is."""
    row = only(place(context).gateway.pages("/api/v1/devices"), device, "device_id", "device_name")
    body = {"type": None if type_name == "-" else type_name}
    done = place(context).gateway.request("PUT", f"{_path(row)}/type", json=body)
    show(done, as_json=as_json, human=lambda: say(f"{done['name']} is of type {done['type'] or '(none)'}."))


@types.command("list")
@told
def list_types(context: typer.Context, as_json: AsJson = False) -> None:
    """Every type."""
    rows = place(context).gateway.request("GET", TYPES)["rows"]
    lines = [
        (
            row["name"],
            row["title"],
            " ".join(row["readings"]),
            " ".join(f"{name} ({one['risk']})" for name, one in row["commands"].items()),
        )
        for row in rows
    ]
    head = ("TYPE", "TITLE", "READINGS", "COMMANDS (RISK)")
    show(rows, as_json=as_json, human=lambda: table(lines, head, empty="No types yet. Add one from a file."))


@types.command()
@told
def add(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="TOML or JSON, by the file's ending.", exists=True, dir_okay=False)],
    as_json: AsJson = False,
) -> None:
    """Make a type from a file, or replace the one of its name."""
    body = _read(file)
    name = body.pop("name", None)
    if not isinstance(name, str):
        give_up(f'{file} has no name = "…".', Exit.USAGE)
    made = place(context).gateway.request("PUT", f"{TYPES}/{name}", json=body)
    show(made, as_json=as_json, human=lambda: say(f"The type {made['name']} stands."))


@types.command("show")
@told
def show_type(context: typer.Context, name: str) -> None:
    """One type, as JSON that 'add' takes."""
    say(json.dumps(place(context).gateway.request("GET", f"{TYPES}/{name}"), indent=2, ensure_ascii=False))


@types.command()
@told
def remove(context: typer.Context, name: str, as_json: AsJson = False) -> None:
    """Remove a type that no thing is of."""
    done = place(context).gateway.request("DELETE", f"{TYPES}/{name}")
    show(done, as_json=as_json, human=lambda: say(f"The type {name} is removed."))


def _all(context: typer.Context) -> list[dict[str, Any]]:
    return place(context).gateway.pages(AT)


def _find(context: typer.Context, name: str) -> dict[str, Any]:
    return only(_all(context), name, "device_id", "name")


def _path(row: dict[str, Any]) -> str:
    return f"{AT}/{row['device_id']}"


def _value(one: dict[str, Any]) -> str:
    value = one["value"]
    text = ("yes" if value else "no") if isinstance(value, bool) else f"{value:g}" if one["kind"] == "number" else value
    return f"{text} {one['unit']}".strip()


def _readings(row: dict[str, Any]) -> str:
    return ", ".join(f"{one['name']} {_value(one)}" for one in row["readings"])


def _show(row: dict[str, Any]) -> None:
    say(f"{row['name']} ({row['device_id']}), {row['type'] or 'no type'}")
    say(f"{row['status']} since {row['status_at']}, heard {row['heard_at'] or 'never'}")
    if row["firmware"]:
        say(f"firmware {row['firmware']}")
    if row["refused"]:
        say(f"{row['refused']} messages did not fit, the last at {row['refused_at']}: {row['refused_why']}")
    lines = [(one["title"] or one["name"], _value(one), one["at"]) for one in row["readings"]]
    table(lines, ("READING", "VALUE", "AT"), empty="No readings yet.")
    if row["commands"]:
        rows = [
            (one["name"], one["risk"], ", ".join(one["args"]["properties"]) if one["args"] else "", one["title"])
            for one in row["commands"]
        ]
        table(rows, ("COMMAND", "RISK", "ARGUMENTS", "WHAT"), empty="")
    if row["events"]:
        events = [(one["event"], one["at"], json.dumps(one["data"], ensure_ascii=False)) for one in row["events"]]
        table(events, ("EVENT", "AT", "DATA"), empty="")


def _point(one: dict[str, Any]) -> tuple[str, str, str]:
    if one["text"] is not None:
        return one["text"], "", ""
    return f"{one['low']:g}", f"{one['mean']:.6g}", f"{one['high']:g}"


def _arg(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator:
        give_up(f"'{text}' is not NAME=VALUE.", Exit.USAGE)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _outcome(row: dict[str, Any], done: dict[str, Any]) -> str:
    match done["state"]:
        case "done":
            result = "" if done["result"] is None else f" {json.dumps(done['result'], ensure_ascii=False)}"
            return f"{row['name']}: done.{result}"
        case "failed":
            return f"{row['name']} could not do it: {done['error'] or 'it gives no reason'}"
        case "accepted":
            return f"{row['name']} is at it. See 'entobot things commands'."
        case "queued":
            return f"{row['name']} has not answered; it may do it until {done['expires_at']}."
        case state:
            return f"{row['name']}: {state}."


def _read(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        text = file.read_text("utf-8")
        return json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        give_up(f"{file}: {error}", Exit.USAGE)
