"""`entobot audit verify`: the running gateway's log, or files of it without any gateway."""

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entobot.client.console import Exit, Place, give_up, hint, printable, say, show
from entobot.core.errors import Code, Problem

if TYPE_CHECKING:
    from entobot.audit.note import Checkpoint, VerifierKey
    from entobot.audit.offline import Proof
    from entobot.client.local import LocalGateway


def verify_online(where: Place, *, as_json: bool) -> bool:
    with _bar("Verifying") as bar:
        found = watched(where.gateway, bar)
    show(found, as_json=as_json, human=lambda: _tell(found))
    return bool(found["ok"])


def watched(gateway: "LocalGateway", news: Callable[[int, int | None], None]) -> dict[str, Any]:
    """The result of a walk over the running gateway's log, however long it takes. `news` hears how far it is."""
    with gateway.stream("/api/v1/audit/verify/progress") as pieces:
        for line in _lines(pieces):
            told = json.loads(line)
            if "result" in told:
                return told["result"]
            news(told["checked"], told["total"])
    raise Problem(Code.DRAINING, "The gateway stopped before the log was verified.")


def _tell(found: dict[str, Any]) -> None:
    if found["ok"]:
        say(f"{found['checked']} entries, whole and in order. Signed up to entry {found['signed_seq'] or 0}.")
    else:
        finding = found["finding"]
        say(f"The log was altered at entry {finding['seq']} ({finding['kind']}): {finding['detail']}")


def verify_offline(
    files: Sequence[Path], key: str | None, notes: Sequence[Path], *, is_complete: bool, as_json: bool
) -> bool:
    from entobot.audit.offline import verify_files

    verifier = None if key is None else _key(key)
    if notes and verifier is None:
        give_up("A checkpoint is believed by its signature: give --key as well.", Exit.USAGE)
    anchors = [] if verifier is None else _anchors(notes, verifier)
    with _bar("Verifying") as bar:
        try:
            proof = verify_files(
                files, key=verifier, anchors=anchors, is_complete=is_complete, progress=lambda done: bar(done, None)
            )
        except OSError as error:
            give_up(f"{error.filename} cannot be read: {error.strerror}.", Exit.USAGE)
    show(_as_json(proof), as_json=as_json, human=lambda: say("\n".join(printable(line) for line in told(proof))))
    return proof.is_good


def told(proof: "Proof") -> list[str]:
    """What is proven, and what is not, in sentences."""
    lines: list[str] = []
    fault = proof.fault
    if fault is not None:
        lines.append(f"NOT GOOD. {fault.file}, line {fault.line} ({fault.kind}): {fault.detail}")
    else:
        lines.append("GOOD.")
    what = "before that: " if fault else ""
    if proof.is_selection:
        lines.append(f"{what}{proof.entries} entries of {proof.log_id}, each with the hash that fits it.")
        lines.append("Not proven: that none was left out, and that the log holds them. Export the whole log for that.")
        return lines
    lines.append(
        f"{what}{proof.entries} entries of {proof.log_id}, {proof.first} to {proof.last}, in one unbroken chain."
    )
    if proof.signed:
        lines.append(f"Proven: entries up to {proof.signed} are those that {proof.key} signed.")
    if proof.anchored:
        lines.append(f"Proven: entries up to {proof.anchored} are those of a checkpoint that was kept elsewhere.")
    if not proof.trusted:
        lines.append("Not proven: who wrote them. Give --key, as 'entobot audit checkpoint' told it at a good time.")
    elif not proof.anchored:
        lines.append("Not proven: that whoever has the key did not write them anew. Give --checkpoint for that.")
    if proof.beyond:
        lines.append(f"Not here: entries {proof.last + 1} to {proof.beyond}, which a checkpoint speaks of.")
    else:
        lines.append(f"Not proven: that the log ends with entry {proof.last}.")
    if proof.without_values:
        lines.append(f"{proof.without_values} entries stand without their personal values (erased, or not exported).")
    return lines


def _as_json(proof: "Proof") -> dict[str, Any]:
    fault = proof.fault
    return {
        "ok": proof.is_good,
        "log": proof.log_id,
        "first": proof.first,
        "last": proof.last,
        "entries": proof.entries,
        "is_selection": proof.is_selection,
        "signed": proof.signed,
        "anchored": proof.anchored,
        "beyond": proof.beyond,
        "without_values": proof.without_values,
        "key": proof.key or None,
        "fault": None
        if fault is None
        else {"kind": fault.kind, "file": fault.file, "line": fault.line, "detail": fault.detail},
    }


def _key(text: str) -> "VerifierKey":
    """A verifier key, or a file that holds one."""
    from entobot.audit.note import VerifierKey

    try:
        return VerifierKey.parse(text if "+" in text else Path(text).read_text("utf-8"))
    except (OSError, ValueError) as error:
        give_up(
            f"--key is no verifier key and no file with one: {error}. 'entobot audit checkpoint' shows it.", Exit.USAGE
        )


def _anchors(files: Sequence[Path], key: "VerifierKey") -> list["Checkpoint"]:
    from entobot.audit.note import open_notes

    anchors: list[Checkpoint] = []
    for file in files:
        try:
            anchors += open_notes([file.read_text("utf-8")], key)
        except (OSError, ValueError) as error:
            give_up(f"{file} holds a checkpoint that is not good under this key: {error}.", Exit.REFUSED)
    return anchors


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines


@contextmanager
def _bar(what: str) -> Generator[Callable[[int, int | None], None]]:
    """A progress bar on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)

        def update(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        yield update


def tell_checkpoint(found: dict[str, Any]) -> None:
    say(found["note"].rstrip("\n"))
    hint(f"\n{found['size']} entries, {found['at']}. Verifier key:\n{found['key']}")
