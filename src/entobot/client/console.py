"""What every `cli.py` needs: the data folder's gateway, output as table or JSON, and honest exit codes."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer

from entobot.core.errors import Code, Problem, StartupRefused

if TYPE_CHECKING:
    from entobot.client.local import LocalGateway

P = ParamSpec("P")
R = TypeVar("R")


class Exit(IntEnum):
    """Exit codes, documented in docs/reference/cli.md."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    NOT_RUNNING = 3
    NOT_ALLOWED = 4
    NOT_FOUND = 5
    GAVE_UP = 6


_EXIT_OF_STATUS = {401: Exit.NOT_ALLOWED, 403: Exit.NOT_ALLOWED, 404: Exit.NOT_FOUND}

Topics = Annotated[
    str,
    typer.Option(
        help="Limit the key to topics: 'publish=telemetry/#,status subscribe=command'. Without it: what its device may."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON: lists as arrays, in the shapes of the REST API.")]


@dataclass(frozen=True, slots=True)
class Place:
    """The data folder that the command line names."""

    home: Path

    @property
    def gateway(self) -> "LocalGateway":
        from entobot.client.local import LocalGateway

        return LocalGateway(self.home / "gateway.sock")


def place(context: typer.Context) -> Place:
    found = context.find_object(Place)
    assert found is not None, "the root command sets the place"
    return found


def say(text: str = "") -> None:
    sys.stdout.write(text + "\n")


def hint(text: str) -> None:
    """Something for the person, not for a program that reads the output."""
    sys.stderr.write(text + "\n")


def give_up(text: str, code: Exit) -> NoReturn:
    hint(text)
    raise typer.Exit(code)


def show(value: object, *, as_json: bool, human: Callable[[], None]) -> None:
    if as_json:
        say(json.dumps(value, ensure_ascii=False, indent=2))
    else:
        human()


def table(rows: Iterable[Sequence[str]], head: Sequence[str], *, empty: str) -> None:
    """Columns of plain text, aligned; without boxes, so that it reads well anywhere."""
    lines = [[printable(cell) for cell in row] for row in rows]
    if not lines:
        say(empty)
        return
    widths = [max(len(row[n]) for row in [list(head), *lines]) for n in range(len(head))]
    for row in [list(head), *lines]:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def printable(text: str) -> str:
    """What came from outside, without characters that steer a terminal or reorder text."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def told(command: Callable[P, R]) -> Callable[P, R]:
    """Turns refusals into one line on stderr and an exit code."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except Problem as problem:
            retry = "" if problem.retry_after_s is None else f" Try again in {problem.retry_after_s:.0f} s."
            give_up(f"{problem.detail}{retry} [{problem.code}]", _EXIT_OF_STATUS.get(problem.status, Exit.REFUSED))
        except StartupRefused as refusal:
            give_up(str(refusal), Exit.REFUSED)
        except Exception as error:
            name = type(error).__name__  # their modules are not imported for --help
            if name == "GatewayNotRunning":
                give_up(str(error), Exit.NOT_RUNNING)
            if name == "Stopped":
                give_up(str(error), Exit.NOT_ALLOWED)
            raise

    return run


def only(rows: list[dict[str, Any]], name: str, key: str, *labels: str) -> dict[str, Any]:
    """The one row that `name` means: its id, the end of its id, or its label. Raises `not_found` or `invalid`."""
    found = [row for row in rows if row[key] == name]
    found = found or [row for row in rows if any(row.get(label) == name for label in labels)]
    found = found or [row for row in rows if len(name) >= 4 and row[key].endswith(name.upper())]
    if not found:
        raise Problem(Code.NOT_FOUND, f"Nothing is called '{name}'.")
    if len(found) > 1:
        raise Problem(Code.INVALID, f"'{name}' means {len(found)} of them. Use the id.")
    return found[0]
