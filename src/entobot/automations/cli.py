"""`entobot automations …`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from entobot.client.console import AsJson, Exit, give_up, only, place, say, show, table, told

app = typer.Typer(
    help="Have the gateway do something when a board reads something, or at a time.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
AT = "/api/v1/automations"

Name = Annotated[str, typer.Argument(metavar="RULE", help="The rule's id, its end, or its name.")]


@app.command("list")
@told
def list_(
    context: typer.Context,
    everybody: Annotated[bool, typer.Option("--all", help="Everybody's.")] = False,
    as_json: AsJson = False,
) -> None:
    """Every rule of yours, and when it fired last."""
    rows = _all(context, everybody=everybody)
    lines = [
        (row["automation_id"], row["name"], "on" if row["is_on"] else "off", row["text"], row["fired_at"] or "never")
        for row in rows
    ]
    head = ("RULE", "NAME", "IS", "WHAT", "FIRED")
    show(rows, as_json=as_json, human=lambda: table(lines, head, empty="No rules yet. See docs/how-to/automations.md."))


@app.command("show")
@told
def show_(context: typer.Context, rule: Name, as_json: AsJson = False) -> None:
    """One rule."""
    row = _find(context, rule)
    show(row, as_json=as_json, human=lambda: _show(row))


@app.command()
@told
def add(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="TOML or JSON, by the file's ending.", exists=True, dir_okay=False)],
    replace: Annotated[str | None, typer.Option(help="Put it in the place of this rule.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a rule from a file."""
    body, gateway = _read(file), place(context).gateway
    if replace is None:
        made = gateway.request("POST", AT, json=body)
    else:
        made = gateway.request("PUT", _path(_find(context, replace)), json=body)
    show(made, as_json=as_json, human=lambda: say(f"{made['name']} ({made['automation_id']}): {made['text']}"))


@app.command("try")
@told
def try_(
    context: typer.Context,
    rule: Name,
    hours: Annotated[float, typer.Option(min=0.01, max=168, help="How far back.")] = 24,
    as_json: AsJson = False,
) -> None:
    """When it would have fired by what is stored. Nothing happens."""
    row = _find(context, rule)
    found = place(context).gateway.request("GET", f"{_path(row)}/try", params={"hours": hours})
    show(found, as_json=as_json, human=lambda: _tried(found, hours))


@app.command()
@told
def enable(context: typer.Context, rule: Name, as_json: AsJson = False) -> None:
    """Switch a rule on; it looks anew."""
    done = place(context).gateway.request("POST", f"{_path(_find(context, rule))}/enable")
    show(done, as_json=as_json, human=lambda: say(f"{done['name']} is on."))


@app.command()
@told
def disable(context: typer.Context, rule: Name, as_json: AsJson = False) -> None:
    """Switch a rule off."""
    done = place(context).gateway.request("POST", f"{_path(_find(context, rule))}/disable")
    show(done, as_json=as_json, human=lambda: say(f"{done['name']} is off."))


@app.command()
@told
def remove(context: typer.Context, rule: Name, as_json: AsJson = False) -> None:
    """Remove a rule for good."""
    row = _find(context, rule)
    done = place(context).gateway.request("DELETE", _path(row))
    show(done, as_json=as_json, human=lambda: say(f"{row['name']} is removed."))


@app.command()
@told
def history(
    context: typer.Context,
    rule: Name,
    limit: Annotated[int, typer.Option(min=1, max=100, help="The newest so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """What a rule did, and why."""
    found = place(context).gateway.request("GET", f"{_path(_find(context, rule))}/history", params={"limit": limit})
    rows = found["rows"]
    lines = [(one["at"], one["state"], one["cause"], "; ".join(map(_outcome, one["actions"]))) for one in rows]
    head = ("AT", "STATE", "CAUSE", "DONE")
    show(rows, as_json=as_json, human=lambda: table(lines, head, empty="It has not fired yet."))


def _all(context: typer.Context, *, everybody: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    query: dict[str, Any] = {"all": "true"} if everybody else {}
    while True:
        page = place(context).gateway.request("GET", AT, params=query)
        rows += page["rows"]
        if page["next"] is None:
            return rows
        query["cursor"] = page["next"]


def _find(context: typer.Context, name: str) -> dict[str, Any]:
    return only(_all(context, everybody=True), name, "automation_id", "name")


def _path(row: dict[str, Any]) -> str:
    return f"{AT}/{row['automation_id']}"


def _outcome(one: dict[str, Any]) -> str:
    state = f"{one['state']} ({one['command_state']})" if one["command_state"] else one["state"]
    return ", ".join(part for part in (f"{one['text']}: {state}", one["outcome"]) if part)


def _show(row: dict[str, Any]) -> None:
    say(f"{row['name']} ({row['automation_id']}) of {row['user_name']}, {'on' if row['is_on'] else 'off'}")
    if row["why_off"]:
        say(f"Off: {row['why_off']}")
    say(row["text"])
    if row["next_at"]:
        say(f"next at {row['next_at']}")
    say(f"fired {row['fired']} times, last {row['fired_at'] or 'never'}")
    say(json.dumps(row["rule"], indent=2, ensure_ascii=False))


def _tried(found: dict[str, Any], hours: float) -> None:
    if found["note"]:
        say(found["note"])
        return
    lines = [(one["at"], one["cause"], ", ".join(one["actions"])) for one in found["rows"]]
    table(lines, ("WOULD FIRE", "CAUSE", "WOULD DO"), empty=f"It would not have fired in the last {hours:g} hours.")
    say(f"{found['looked_at']} readings were looked at. Nothing was done.")
    if found["is_cut"]:
        say("There are more than were looked at. Take fewer hours.")


def _read(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        text = file.read_text("utf-8")
        return json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        give_up(f"{file}: {error}", Exit.USAGE)
