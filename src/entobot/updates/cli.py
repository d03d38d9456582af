"""`entobot updates …`. `keygen` and `sign` need no gateway: do them where the release key is, and nowhere else."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from entobot.client.console import AsJson, Exit, give_up, hint, only, place, say, show, table, told

app = typer.Typer(help="Sign releases for boards, and roll them out.", no_args_is_help=True, rich_markup_mode=None)
keys = typer.Typer(help="Whose releases this gateway takes.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(keys, name="keys")
KEYS = "/api/v1/updates/keys"
RELEASES = "/api/v1/updates/releases"
ROLLOUTS = "/api/v1/updates/rollouts"

File = Annotated[Path, typer.Argument(exists=True, dir_okay=False)]
Which = Annotated[str, typer.Argument(metavar="ROLLOUT", help="Its id, or the id's end. The newest unless given.")]


@app.command()
def keygen(file: Annotated[Path, typer.Argument(help="Where the private key goes. It must not be there yet.")]) -> None:
    """Make a release key. Keep it off the gateway; print its public half."""
    from entobot.updates.signing import make_key

    try:
        public = make_key(file)
    except OSError as error:
        give_up(f"{file}: {error.strerror}.", Exit.USAGE)
    say(public)
    hint(f"{file} signs releases: keep it where releases are made, with a copy elsewhere, and not on the gateway.")
    hint("The line above is public: 'entobot updates keys add', and settings.json of each board under update.keys.")


@app.command()
def sign(
    folder: Annotated[Path, typer.Argument(help="What is to run on the board: main.py and the rest.", exists=True, file_okay=False)],
    type_name: Annotated[str, typer.Option("--type", help="Of which type the boards are.")],
    version: Annotated[str, typer.Option(help="As in 1.2.0.")],
    key: Annotated[Path, typer.Option(help="What 'keygen' made.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option(help="Where the release goes.")],
    minimum_version: Annotated[str, typer.Option(help="What a board must run already.")] = "",
    counter: Annotated[
        int | None, typer.Option(help="Only grows: boards refuse a lower one. Default: seconds since 1970.", min=1)
    ] = None,
    expires_days: Annotated[int | None, typer.Option(help="Boards do not take it after so many days.", min=1)] = None,
) -> None:  # fmt: skip
    """Make a signed release of a folder."""
    from entobot.updates.manifest import Malformed, read_release
    from entobot.updates.signing import files_of, make_release, read_key

    now = datetime.now(UTC).replace(microsecond=0)  # noqa: TID251  of the computer that signs
    ends = "" if expires_days is None else _time(now + timedelta(days=expires_days))
    try:
        made = make_release(
            files_of(folder),
            read_key(key),
            type=type_name,
            version=version,
            counter=round(now.timestamp()) if counter is None else counter,
            created=_time(now),
            minimum_version=minimum_version,
            expires=ends,
        )
    except Malformed as error:
        give_up(str(error), Exit.USAGE)
    out.write_bytes(made)
    manifest = read_release(made).manifest
    say(f"{out}: {type_name} {version}, {len(manifest.files)} files, {len(made)} bytes.")


@app.command()
@told
def add(context: typer.Context, release: File, as_json: AsJson = False) -> None:
    """Bring a signed release to the gateway. No board takes it yet: see 'start'."""
    headers = {"content-type": "application/octet-stream"}
    made = place(context).gateway.request("POST", RELEASES, content=release.read_bytes(), headers=headers)
    text = (
        f"{made['type']} {made['version']} is here. Roll it out: entobot updates start {made['type']} {made['version']}"
    )
    show(made, as_json=as_json, human=lambda: say(text))


@app.command("list")
@told
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """Every release."""
    rows = place(context).gateway.pages(RELEASES)
    lines = [(row["type"], row["version"], str(row["size"]), row["created"], row["public_key"][:8], row["release_id"]) for row in rows]  # fmt: skip
    head = ("TYPE", "VERSION", "BYTES", "MADE", "KEY", "RELEASE")
    show(rows, as_json=as_json, human=lambda: table(lines, head, empty="No releases yet. See docs/how-to/update-boards.md."))  # fmt: skip


@app.command()
@told
def remove(context: typer.Context, type_name: str, version: str, as_json: AsJson = False) -> None:
    """Remove a release that is not being rolled out."""
    rows = [one for one in place(context).gateway.pages(RELEASES) if one["type"] == type_name]
    row = only(rows, version, "release_id", "version")
    done = place(context).gateway.request("DELETE", f"{RELEASES}/{row['release_id']}")
    show(done, as_json=as_json, human=lambda: say(f"{type_name} {version} is removed."))


@app.command()
@told
def start(
    context: typer.Context,
    type_name: Annotated[str, typer.Argument(metavar="TYPE")],
    version: str,
    stages: Annotated[
        str, typer.Option(help="Percentages; first tag=WORD or device=ID, where some come before all.")
    ] = "100",
    health: Annotated[int, typer.Option(help="Seconds that a board stays online before it is healthy.", min=0)] = 300,
    reading: Annotated[str, typer.Option(help="A reading that must come, too.")] = "",
    timeout: Annotated[int, typer.Option(help="Seconds after which a board that began has failed.", min=1)] = 3600,
    max_failed: Annotated[int, typer.Option(help="Percent that may fail before it pauses.", min=0, max=100)] = 10,
    as_json: AsJson = False,
) -> None:
    """Roll a release out to the boards of its type, stage by stage."""
    body: dict[str, Any] = {
        "type": type_name,
        "version": version,
        "stages": [_stage(one) for one in stages.replace(",", " ").split()],
        "health_s": health,
        "reading": reading,
        "timeout_s": timeout,
        "max_failed_percent": max_failed,
    }
    made = place(context).gateway.request("POST", ROLLOUTS, json=body)
    show(made, as_json=as_json, human=lambda: _show(made))


@app.command()
@told
def rollouts(context: typer.Context, as_json: AsJson = False) -> None:
    """Every roll-out."""
    rows = place(context).gateway.pages(ROLLOUTS)
    lines = [
        (one["rollout_id"], one["type"], one["version"], one["state"], f"{one['stage'] + 1} of {len(one['stages'])}", _counts(one), one["why"])
        for one in rows
    ]  # fmt: skip
    head = ("ROLLOUT", "TYPE", "VERSION", "STATE", "STAGE", "BOARDS", "WHY")
    show(rows, as_json=as_json, human=lambda: table(lines, head, empty="No roll-outs yet."))


@app.command()
@told
def status(context: typer.Context, rollout: Which = "", as_json: AsJson = False) -> None:
    """One roll-out, and how far each board is."""
    row = _find(context, rollout)
    boards = place(context).gateway.pages(f"{ROLLOUTS}/{row['rollout_id']}/devices")
    lines = [(one["device_id"], one["name"], str(one["stage"] + 1), one["state"], one["since"], one["reason"]) for one in boards]  # fmt: skip

    def human() -> None:
        _show(row)
        table(lines, ("DEVICE", "NAME", "STAGE", "STATE", "SINCE", "WHY"), empty="No boards.")

    show(row | {"boards": boards}, as_json=as_json, human=human)


@app.command()
@told
def pause(context: typer.Context, rollout: Which = "", as_json: AsJson = False) -> None:
    """No board begins any more, and none downloads on."""
    _do(context, rollout, "pause", as_json=as_json)


@app.command()
@told
def resume(context: typer.Context, rollout: Which = "", as_json: AsJson = False) -> None:
    """Go on with a roll-out that is paused."""
    _do(context, rollout, "resume", as_json=as_json)


@app.command()
@told
def abort(context: typer.Context, rollout: Which = "", as_json: AsJson = False) -> None:
    """End a roll-out for good. What was installed stays."""
    _do(context, rollout, "abort", as_json=as_json)


@keys.command("list")
@told
def list_keys(context: typer.Context, as_json: AsJson = False) -> None:
    """The keys whose releases this gateway takes."""
    rows = place(context).gateway.request("GET", KEYS)["rows"]
    lines = [(one["public_key"], one["name"], one["added_at"]) for one in rows]
    show(rows, as_json=as_json, human=lambda: table(lines, ("KEY", "NAME", "ADDED"), empty="No release keys yet."))


@keys.command("add")
@told
def add_key(
    context: typer.Context,
    public_key: Annotated[str, typer.Argument(help="What 'keygen' printed.")],
    name: Annotated[str, typer.Argument(help="For the list.")] = "release key",
    as_json: AsJson = False,
) -> None:
    """Take releases that this key signed."""
    made = place(context).gateway.request("POST", KEYS, json={"public_key": public_key, "name": name})
    show(made, as_json=as_json, human=lambda: say(f"Releases of '{made['name']}' are taken."))


@keys.command("remove")
@told
def remove_key(context: typer.Context, public_key: str, as_json: AsJson = False) -> None:
    """Take no more releases of a key. What is being rolled out is paused."""
    done = place(context).gateway.request("DELETE", f"{KEYS}/{public_key}")
    show(done, as_json=as_json, human=lambda: say("Its releases are not taken any more."))


def _do(context: typer.Context, name: str, verb: str, *, as_json: bool) -> None:
    done = place(context).gateway.request("POST", f"{ROLLOUTS}/{_find(context, name)['rollout_id']}/{verb}")
    show(done, as_json=as_json, human=lambda: _show(done))


def _find(context: typer.Context, name: str) -> dict[str, Any]:
    rows = place(context).gateway.pages(ROLLOUTS)
    if not name and rows:
        return rows[0]
    return only(rows, name, "rollout_id")


def _stage(text: str) -> dict[str, Any]:
    kind, separator, value = text.partition("=")
    if separator and kind in ("tag", "device"):
        return {f"{kind}s": [value]}
    if not text.removesuffix("%").isdigit():
        give_up(f"'{text}' is no stage: a percentage, tag=WORD or device=ID.", Exit.USAGE)
    return {"percent": int(text.removesuffix("%"))}


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _counts(row: dict[str, Any]) -> str:
    total: dict[str, int] = {}
    for stage in row["stages"]:
        for state, many in stage["states"].items():
            total[state] = total.get(state, 0) + many
    return ", ".join(f"{many} {state.replace('_', ' ')}" for state, many in sorted(total.items()))


def _show(row: dict[str, Any]) -> None:
    say(f"{row['rollout_id']}: {row['type']} {row['version']}, {row['state']}" + (f": {row['why']}" if row["why"] else ""))  # fmt: skip
    for number, one in enumerate(row["stages"]):
        who = f"{one['percent']} %" if one["percent"] is not None else " ".join([*one["tags"], *one["devices"]])
        states = ", ".join(f"{many} {state.replace('_', ' ')}" for state, many in sorted(one["states"].items()))
        mark = "→" if number == row["stage"] and row["ended_at"] is None else " "
        say(f"{mark} stage {number + 1} ({who}): {states or 'no boards'}")
