"""`entobot backup …` and `entobot restore`."""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from entobot.client.console import AsJson, Exit, give_up, hint, place, printable, say, told

if TYPE_CHECKING:
    from entobot.backup.making import Made
    from entobot.backup.manifest import Manifest
    from entobot.backup.restoring import Restored
    from entobot.backup.sealing import Lock, Opener
    from entobot.backup.settling import Orders


class MakeByDefault(TyperGroup):
    """`entobot backup FILE` is `entobot backup make FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_named = bool(args) and (args[0] in self.commands or args[0] == "--help")
        return super().parse_args(ctx, args if is_named else ["make", *args])


app = typer.Typer(
    cls=MakeByDefault,
    invoke_without_command=True,  # a command of its own in the reference
    help="Back up this gateway into one encrypted file, beside the running gateway. 'entobot backup [FILE]' is 'entobot backup make [FILE]'.",
    rich_markup_mode=None,
)

Identity = Annotated[
    Path | None, typer.Option("--identity", help="File with the age identity (AGE-SECRET-KEY-1…).", dir_okay=False)
]
PassphraseFile = Annotated[
    Path | None, typer.Option("--passphrase-file", help="File whose first line is the passphrase.", dir_okay=False)
]

BEHIND_EVERYBODY = 10
HOW_TO_SEAL = (
    "A backup holds every key of this gateway: say for whom it is.\n"
    "  entobot backup key entobot-backup.key        makes a key; keep it away from this machine\n"
    "  entobot backup --recipient age1…             or backup.recipients in the settings\n"
    "Without encryption: --unencrypted."
)
IN_THE_CLEAR = (
    "NOT encrypted. Whoever reads this file can be this gateway: it holds the server keys, the keys that sign tokens and "
    "the audit log, the certificate authority's key, the terminal's credentials, every message, and the agent's files."
)


@app.command()
@told
def make(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="Written anew. Else a name with the time, in backup.folder or here.")
    ] = None,
    recipient: Annotated[
        list[str] | None, typer.Option(help="age1… that can open it; several times. Else backup.recipients.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    unencrypted: Annotated[bool, typer.Option("--unencrypted", help="Readable by whoever gets the file.")] = False,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not restore it into a scratch folder.")] = False,
    no_workspace: Annotated[bool, typer.Option("--no-workspace", help="Leave out the agent's files.")] = False,
    scheduled: Annotated[bool, typer.Option("--scheduled", help="Delete old ones as well.", hidden=True)] = False,
    as_json: AsJson = False,
) -> None:
    """Make a backup: database, keys, certificates, settings, the agent's files. The gateway may run."""
    from entobot.backup.making import Wish, make
    from entobot.backup.retention import thin_out
    from entobot.core.clock import SystemClock
    from entobot.home import Home
    from entobot.sources import load, system_environment

    if scheduled:
        os.nice(BEHIND_EVERYBODY)
    home = Home(place(context).home)
    settings = load(home.path, system_environment())
    lock = _lock(tuple(recipient or ()), passphrase_file, settings.backup.recipients, unencrypted=unencrypted)
    folder = (settings.backup.folder or Path.cwd()).absolute()
    target = None if file is None else file.absolute()
    wish = Wish(target, folder, lock, is_verified=not no_verify, with_workspace=not no_workspace)
    with _swept(), _progress(as_json=as_json) as progress:
        made = asyncio.run(make(home, settings, wish, SystemClock(), progress))
    deleted = thin_out(folder, made, settings.backup.keep) if scheduled else []
    if not lock.is_sealed:
        hint(IN_THE_CLEAR)
    if as_json:
        say(json.dumps(_made_json(made, deleted), indent=2))
    else:
        _say_made(made, lock)


@app.command()
@told
def verify(
    file: Annotated[Path, typer.Argument(help="What 'entobot backup' wrote.", dir_okay=False)],
    identity: Identity = None,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Restore a backup into a scratch folder, check everything, and remove it again. Needs no gateway."""
    import tempfile

    from entobot.backup.making import check_file

    opener = _opener(identity, passphrase_file)
    with _swept(), _progress(as_json=as_json) as progress:
        manifest, checked = asyncio.run(check_file(file, opener, Path(tempfile.gettempdir()), progress))
    if as_json:
        say(
            json.dumps(
                {"file": str(file), "ok": True, **_manifest_json(manifest), "checked": asdict(checked)}, indent=2
            )
        )
        return
    for line in describe(manifest):
        say(line)
    walked = "" if checked.audit_entries is None else f", {checked.audit_entries} audit entries whole and in order"
    say(f"It is whole: {checked.rows} rows, keys readable{walked}.")


@app.command()
@told
def key(
    file: Annotated[Path, typer.Argument(help="Written anew, readable by you alone.", dir_okay=False)],
    as_json: AsJson = False,
) -> None:
    """Make a key pair: the secret half into a file, the recipient to standard output."""
    from entobot.backup import age
    from entobot.home import create_private

    identity, recipient = age.new_identity()
    text = f"# recipient: {age.text_of(recipient)}\n{age.text_of(identity)}\n"
    if not create_private(file, text.encode("ascii")):
        give_up(f"{file} is there already. Name another file.", Exit.REFUSED)
    say(json.dumps({"recipient": age.text_of(recipient), "file": str(file)}) if as_json else age.text_of(recipient))
    hint(f"The secret half is in {file}. Move it off this machine: without it no backup can be opened, by nobody.")


@told
def restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="What 'entobot backup' wrote.", dir_okay=False)],
    identity: Identity = None,
    passphrase_file: PassphraseFile = None,
    home: Annotated[
        Path | None, typer.Option("--home", help="Into this empty data folder; else the one that entobot works on.")
    ] = None,
    revoke_file: Annotated[
        Path | None,
        typer.Option(
            help="Device ids, one a line, or what 'devices list --json' printed: those are revoked.", dir_okay=False
        ),
    ] = None,
    suspend_devices: Annotated[
        bool, typer.Option("--suspend-devices", help="Let no device in before you reactivate it.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Restore a backup into an empty data folder, all of it or nothing. No gateway may run there."""
    from entobot.backup.restoring import restore
    from entobot.backup.settling import Orders
    from entobot.core.clock import SystemClock
    from entobot.home import Home
    from entobot.sources import load, system_environment

    target = Home(home or place(context).home)
    orders = Orders(_to_revoke(revoke_file), is_suspending=suspend_devices)
    opener = _opener(identity, passphrase_file)
    with _swept(), _progress(as_json=as_json) as progress:

        def confirm(manifest: "Manifest") -> bool:
            progress("", 0, 0)
            return yes or _is_wanted(manifest, target.path, orders)

        restored = asyncio.run(
            restore(
                file,
                opener,
                target,
                lambda folder: load(folder, system_environment()),
                orders,
                confirm,
                SystemClock(),
                progress,
            )
        )
    if restored is None:
        give_up("Nothing was restored.", Exit.REFUSED)
    if as_json:
        say(json.dumps(_restored_json(restored, target.path), indent=2))
    else:
        _say_restored(restored, target.path)


def _to_revoke(path: Path | None) -> frozenset[str]:
    """Raises StartupRefused."""
    from entobot.core.errors import StartupRefused
    from entobot.core.ids import Prefix, is_id

    if path is None:
        return frozenset()
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise StartupRefused(f"{path} cannot be read.") from None
    try:
        rows: Any = json.loads(text)
        found = {str(row["device_id"]) for row in rows if row["status"] == "revoked"}
    except (ValueError, TypeError, KeyError):
        lines = [line.partition("#")[0].split() for line in text.splitlines()]
        found = {words[0] for words in lines if words}
    if wrong := sorted(one for one in found if not is_id(one, Prefix.DEVICE)):
        raise StartupRefused(f"{path}: '{wrong[0]}' is no device id (dev_…). Nothing was restored.")
    return frozenset(found)


def _is_wanted(manifest: "Manifest", target: Path, orders: "Orders") -> bool:
    import sys

    for line in describe(manifest):
        hint(line)
    hint(f"\nInto {target}:")
    for one in manifest.members:
        hint(f"  + {one.name}  {one.size} bytes")
    hint(f"\n{_lost(manifest)}")
    if orders.revoke:
        hint(f"{len(orders.revoke)} devices are revoked with it.")
    if not sys.stdin.isatty():
        give_up("There is no terminal to ask at: repeat with --yes.", Exit.USAGE)
    return typer.confirm("Restore this?", default=False, err=True)


def _lost(manifest: "Manifest") -> str:
    from entobot.core.clock import rfc3339

    return (
        f"Lost is what happened after {rfc3339(manifest.made_at_ms)}: messages, decisions, settings, audit entries; "
        "devices paired later pair again. Devices that were revoked, suspended or signed out later, and people who were disabled, are let in again, "
        "because the backup cannot know: revoke them by --revoke-file, or keep all out by --suspend-devices. Enrolment keys "
        "that were spent or revoked later let boards in again: 'entobot enrolment revoke'; --suspend-devices ends them all."
    )


def _say_restored(restored: "Restored", target: Path) -> None:
    from entobot.core.clock import rfc3339_or_none

    settled = restored.settled
    say(f"Restored into {target}; {restored.audit_entries} audit entries, whole and in order.")
    say(_lost(restored.manifest))
    for title, devices in (
        ("let in again", settled.active),
        ("suspended until you reactivate it", settled.suspended),
        ("revoked", settled.revoked),
    ):
        for one in devices:
            seen = rfc3339_or_none(one.last_seen_at_ms) or "never"
            say(f"  {one.device_id}  {printable(one.name)}, last seen {seen}: {title}")
    for key in settled.enrolment_keys:
        say(f"  {key.key_id}  {printable(key.name)}: lets boards in again, {key.uses} of {key.max_uses} so far")
    for one in settled.unknown:
        say(f"  {one}: not in the backup, nothing to revoke")
    say("Every device is sent its state anew. Start it with 'entobot up'.")


def _restored_json(restored: "Restored", target: Path) -> dict[str, Any]:
    settled = restored.settled
    return {
        "home": str(target),
        **_manifest_json(restored.manifest),
        "audit_entries": restored.audit_entries,
        "streams": settled.streams,
        "devices": {
            "let_in": [one.device_id for one in settled.active],
            "revoked": [one.device_id for one in settled.revoked],
            "suspended": [one.device_id for one in settled.suspended],
            "unknown": settled.unknown,
        },
        "enrolment_keys": [one.key_id for one in settled.enrolment_keys],
    }


def _lock(
    recipients: tuple[str, ...], passphrase_file: Path | None, configured: tuple[str, ...], *, unencrypted: bool
) -> "Lock":
    from entobot.backup import age
    from entobot.backup.sealing import Lock

    if (bool(recipients) + (passphrase_file is not None) + unencrypted) > 1:
        give_up("Give --recipient, --passphrase-file or --unencrypted, one of them.", Exit.USAGE)
    if passphrase_file is not None:
        return Lock(passphrase=age.read_passphrase(passphrase_file))
    if unencrypted:
        return Lock()
    chosen = recipients or configured
    if not chosen:
        give_up(HOW_TO_SEAL, Exit.USAGE)
    age.parse_recipients(chosen)
    return Lock(chosen)


def _opener(identity: Path | None, passphrase_file: Path | None) -> "Opener":
    from entobot.backup import age
    from entobot.backup.sealing import Opener

    return Opener(
        () if identity is None else tuple(age.read_identities(identity)),
        None if passphrase_file is None else age.read_passphrase(passphrase_file),
    )


@contextmanager
def _swept() -> Generator[None]:
    """SIGTERM ends it as Ctrl-C does: what lies in scratch folders is not encrypted, and is removed on the way out."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _progress(*, as_json: bool) -> Generator[Callable[[str, int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn())
    with Progress(*columns, console=console, transient=True, disable=as_json or not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda name, done, total: bar.update(task, description=name, completed=done, total=total or None)


def describe(manifest: "Manifest") -> list[str]:
    """What a backup holds, for people."""
    from entobot.core.clock import rfc3339

    folders: dict[str, int] = {}
    for one in manifest.members:
        folders[one.name.partition("/")[0]] = folders.get(one.name.partition("/")[0], 0) + 1
    entries = 0 if manifest.audit is None else manifest.audit.entries
    files = ", ".join(f"{name} ({count} files)" if count > 1 else name for name, count in sorted(folders.items()))
    rows = ", ".join(
        f"{manifest.tables[name]} {name}" for name in ("users", "devices", "messages") if name in manifest.tables
    )
    return [
        f"Made at {rfc3339(manifest.made_at_ms)} by Entobot {manifest.version}, schema {manifest.db_schema} ({manifest.store}).",
        f"Gateway {manifest.gateway}{' at ' + manifest.origin if manifest.origin else ''}.",
        f"Rows: {rows}; {entries} audit entries. {manifest.size // 1024} KiB in all.",
        f"Files: {files}.",
        *(f"Not in it: {name}" for name in manifest.left_out),
    ]


def _say_made(made: "Made", lock: "Lock") -> None:
    for line in describe(made.manifest):
        say(line)
    checked = made.checked
    if checked is None:
        looked = "not verified"
    else:
        entries = 0 if made.manifest.audit is None else made.manifest.audit.entries
        looked = f"restored into a scratch folder and verified: {checked.rows} rows, {entries} audit entries"
    say(f"{made.file}: {made.size // 1024} KiB, {lock}; {looked}.")


def _made_json(made: "Made", deleted: list[Path]) -> dict[str, Any]:
    return {
        "file": str(made.file),
        "size": made.size,
        **_manifest_json(made.manifest),
        "checked": None if made.checked is None else asdict(made.checked),
        "deleted": [str(path) for path in deleted],
    }


def _manifest_json(manifest: "Manifest") -> dict[str, Any]:
    import msgspec

    return {"manifest": msgspec.to_builtins(manifest)}
