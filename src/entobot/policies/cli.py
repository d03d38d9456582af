"""`entobot policy …`."""

import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from entobot.client.console import AsJson, Exit, give_up, hint, only, place, say, show, table, told
from entobot.core.errors import Code, Problem

if TYPE_CHECKING:
    from entobot.client.local import LocalGateway

app = typer.Typer(help="Who may publish, subscribe and command, beyond what is built in.", no_args_is_help=True, rich_markup_mode=None)  # fmt: skip

AT = "/api/v1/policies"
KEYS = {"device", "publish", "subscribe", "command", "by", "via", "with", "expect"}
SHOWN = 20

Name = Annotated[str, typer.Argument(help="The policy's name.")]
Source = Annotated[Path, typer.Argument(help="The text, in Cedar; - reads it from the input.", allow_dash=True)]
NameOption = Annotated[str, typer.Option("--name", help="Its name. Default: the file's.")]


@app.command("list")
@told
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """Every policy; what is built in first."""
    rows = place(context).gateway.request("GET", AT)["rows"]
    head = ("POLICY", "VERSION", "CHANGED", "BY")
    lines = [
        (one["name"], str(one["version"] or ""), one["changed_at"] or "built in", one["changed_by"]) for one in rows
    ]
    show(rows, as_json=as_json, human=lambda: table(lines, head, empty="No policies."))


@app.command("show")
@told
def show_(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The policy's name; without one: what policies may name.")] = "",
    versions: Annotated[bool, typer.Option("--versions", help="Every version of it.")] = False,
    as_json: AsJson = False,
) -> None:
    """The text of a policy, or the schema of all."""
    if not name:
        schema = place(context).gateway.request("GET", AT)["cedar_schema"]
        show({"cedar_schema": schema}, as_json=as_json, human=lambda: say(schema.rstrip()))
        return
    row = place(context).gateway.request("GET", f"{AT}/{name}")

    def human() -> None:
        if not versions:
            say(row["text"].rstrip())
            return
        for one in row["versions"]:
            say(f"// version {one['version']}, {one['changed_at']}, {one['changed_by']}")
            say(one["text"].rstrip() or "// removed")

    show(row, as_json=as_json, human=human)


@app.command()
@told
def add(context: typer.Context, file: Source, name: NameOption = "", as_json: AsJson = False) -> None:
    """Store a policy, or a new version of it. Live connections feel it within a second."""
    text, called = _read(file), name or _name_of(file)
    try:
        row = place(context).gateway.request("PUT", f"{AT}/{called}", json={"text": text})
    except Problem as problem:
        _give_up_with_flaws(file, problem)
        raise
    show(row, as_json=as_json, human=lambda: say(f"{called} is version {row['version']}, and in force."))


@app.command()
@told
def remove(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Take a policy out of force. Its versions stay."""
    row = place(context).gateway.request("DELETE", f"{AT}/{name}")
    show(row, as_json=as_json, human=lambda: say(f"{name} is removed."))


@app.command()
@told
def check(context: typer.Context, file: Source, name: NameOption = "", as_json: AsJson = False) -> None:
    """Whether a text could be stored, and who would gain or lose something by it. Stores nothing."""
    text, called = _read(file), name or _name_of(file)
    if not text.strip():
        give_up(f"{file}:1:1: there is no policy in this text", Exit.REFUSED)
    found = place(context).gateway.request("POST", f"{AT}/check", json={"name": called, "text": text})

    def human() -> None:
        for one in found["flaws"]:
            say(f"{file}:{one['line']}:{one['column']}: {one['text']}")
        if not found["flaws"]:
            say(f"{called} can be stored.")
            _show_shifts(found)

    show(found, as_json=as_json, human=human)
    if found["flaws"]:
        raise typer.Exit(Exit.REFUSED)


@app.command()
@told
def explain(
    context: typer.Context,
    device: Annotated[str, typer.Option(help="Who publishes or subscribes; of a command, the thing.")],
    publish: Annotated[str | None, typer.Option(help="A topic: devices/ID/…; ID may be a device's name.")] = None,
    subscribe: Annotated[str | None, typer.Option(help="A topic or filter.")] = None,
    command: Annotated[str | None, typer.Option(help="A command's name.")] = None,
    by: Annotated[str | None, typer.Option(help="Who commands: a login or user id. Default: the owner.")] = None,
    via: Annotated[str, typer.Option(help="person, or agent where it commands for them.")] = "person",
    with_device: Annotated[str | None, typer.Option("--with", help="The board that commands for them.")] = None,
    as_json: AsJson = False,
) -> None:
    """Whether something would be allowed now, and which rule says so. Exit 1: it would not."""
    names = _Names(place(context).gateway)
    asked = {"device": device, "publish": publish, "subscribe": subscribe, "command": command, "by": by}
    asked |= {"via": via, "with": with_device}
    found = names.explain({key: value for key, value in asked.items() if value is not None})

    def human() -> None:
        say(f"{'allowed' if found['is_allowed'] else 'denied'}: {found['rule']}")

    show(found, as_json=as_json, human=human)
    if not found["is_allowed"]:
        raise typer.Exit(Exit.REFUSED)


@app.command("test")
@told
def compare(context: typer.Context, file: Source, as_json: AsJson = False) -> None:
    """Compare what is decided with what a file expects. Exit 1: something is decided otherwise."""
    try:
        wanted = tomllib.loads(_read(file)).get("test", [])
    except tomllib.TOMLDecodeError as error:
        give_up(f"{file}: {error}", Exit.USAGE)
    if not wanted:
        give_up(f"{file}: there is no [[test]] in it. See docs/how-to/policies.md.", Exit.USAGE)
    names, results = _Names(place(context).gateway), list[dict[str, Any]]()
    for number, one in enumerate(wanted, 1):
        if not set(one) <= KEYS or one.get("expect") not in ("allowed", "denied"):
            give_up(
                f"{file}: test {number} has expect = allowed or denied, and of {', '.join(sorted(KEYS))}", Exit.USAGE
            )
        found = names.explain(one)
        is_as_expected = found["is_allowed"] == (one["expect"] == "allowed")
        results.append({"number": number, "is_as_expected": is_as_expected, "asked": one, **found})
    failed = [one for one in results if not one["is_as_expected"]]

    def human() -> None:
        for one in failed:
            is_now = "allowed" if one["is_allowed"] else "denied"
            say(
                f"test {one['number']}: {_told(one['asked'])}: expected {one['asked']['expect']}, is {is_now}: {one['rule']}"
            )
        say(f"{len(results) - len(failed)} of {len(results)} as expected.")

    show(results, as_json=as_json, human=human)
    if failed:
        raise typer.Exit(Exit.REFUSED)


class _Names:
    """Asks the gateway by the names that people use."""

    def __init__(self, gateway: "LocalGateway") -> None:
        self._gateway = gateway
        self._devices: list[dict[str, Any]] | None = None
        self._users: list[dict[str, Any]] | None = None

    def explain(self, one: dict[str, Any]) -> dict[str, Any]:
        body: dict[str, Any] = {"device_id": self._device(one["device"]), "via": one.get("via", "person")}
        body |= {key: self._topic(one[key]) for key in ("publish", "subscribe") if key in one}
        if "command" in one:
            body["command"] = one["command"]
        if "by" in one:
            body["by"] = self._user(one["by"])
        if "with" in one:
            body["with_device"] = self._device(one["with"])
        return self._gateway.request("POST", f"{AT}/explain", json=body)

    def _device(self, name: str) -> str:
        if self._devices is None:
            self._devices = self._all("/api/v1/devices")
        return only(self._devices, name, "device_id", "device_name")["device_id"]

    def _user(self, name: str) -> str:
        if self._users is None:
            self._users = self._all("/api/v1/users")
        return only(self._users, name, "user_id", "login", "name")["user_id"]

    def _all(self, at: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        query = {"limit": "100"}
        while True:
            page = self._gateway.request("GET", at, params=query)
            rows += page["rows"]
            if not page.get("next"):
                return rows
            query["cursor"] = page["next"]

    def _topic(self, text: str) -> str:
        """With the device's id, where its name stands for it."""
        levels = text.split("/")
        is_name = len(levels) > 2 and levels[0] == "devices" and re.fullmatch(r"dev_\w{26}|[+#]|", levels[1]) is None
        if not is_name:
            return text
        return "/".join(["devices", self._device(levels[1]), *levels[2:]])


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except OSError as error:
        give_up(f"{file} cannot be read: {error.strerror}", Exit.USAGE)
    except UnicodeDecodeError:
        give_up(f"{file} is no text in UTF-8.", Exit.USAGE)


def _name_of(file: Path) -> str:
    if str(file) == "-":
        raise Problem(Code.INVALID, "Say how the policy is called: --name.")
    return file.name.removesuffix(".cedar").lower()


def _give_up_with_flaws(file: Path, problem: Problem) -> None:
    flaws: Any = problem.extra.get("flaws")
    if isinstance(flaws, list):
        for one in flaws:  # pyright: ignore[reportUnknownVariableType]  what a server answers
            hint(f"{file}:{one['line']}:{one['column']}: {one['text']}")
        give_up("Nothing was changed.", Exit.REFUSED)


def _show_shifts(found: dict[str, Any]) -> None:
    shifts = found["shifts"]
    if not shifts:
        say(f"Nobody would gain or lose any of the {found['looked_at']} topics and filters known of devices.")
        return
    rows = [
        (
            "gains" if one["becomes"] == "allowed" else "loses",
            one["device_name"],
            one["action"],
            one["topic"],
            one["rule"],
        )
        for one in shifts[:SHOWN]
    ]
    table(rows, ("", "DEVICE", "ACTION", "TOPIC", "RULE"), empty="")
    if len(shifts) > SHOWN:
        say(f"… and {len(shifts) - SHOWN} more; --json shows all.")


def _told(asked: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in asked.items() if key != "expect")
