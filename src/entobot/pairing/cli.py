"""`entobot pair …`: show a QR code, watch it being claimed, ask for the six digits."""

import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from entobot.client.console import AsJson, Exit, Place, hint, only, place, printable, say, show, table, told
from entobot.core.errors import Code, Problem

app = typer.Typer(help="Pair a phone or another device.", invoke_without_command=True, rich_markup_mode=None)

INVITES = "/api/v1/pairing/invites"
POLL_S = 0.5
ENDED = {
    "burned": "Wrong digits, or too many bad tries: this invite is void. Start again with 'entobot pair'.",
    "cancelled": "The invite was cancelled.",
    "denied": "The invite was denied.",
    "expired": "The invite expired before the phone was paired. Start again with 'entobot pair'.",
}


@app.callback()
@told
def pair(
    context: typer.Context,
    label: Annotated[str, typer.Option(help="For the list of invites.")] = "",
    user: Annotated[str, typer.Option(help="Whose device: their login. Default: yours.")] = "",
    scopes: Annotated[str | None, typer.Option(help="Comma-separated. Default: chat,approve,notify.")] = None,
    confirm: Annotated[
        str | None, typer.Option(help="type (six digits), approve (yes or no), none. Default: type; by SMS approve.")
    ] = None,
    ttl: Annotated[
        int | None, typer.Option(help="Seconds until the invite expires. Default: 300; by SMS 900.", min=30, max=900)
    ] = None,
    sms: Annotated[str | None, typer.Option(help="Send the link by SMS to this number, as in +14155551234.")] = None,
    allow_bearer: Annotated[
        bool, typer.Option("--allow-bearer", help="Also let in a board or script without a key. Weaker.")
    ] = False,
    png: Annotated[Path | None, typer.Option(help="Also write the QR code to this PNG file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Invite a device: shows the QR code or sends it by SMS, waits, and asks whether it is the right one."""
    if context.invoked_subcommand is not None:
        return
    if png is not None and sms is not None:
        raise Problem(Code.INVALID, "--png is for the QR code; by SMS there is none.")
    request: dict[str, Any] = {"kind": "qr" if sms is None else "sms", "label": label}
    request |= {} if sms is None else {"phone_number": sms}
    request |= {} if confirm is None else {"confirm": confirm}
    request |= {} if ttl is None else {"ttl_s": ttl}
    if allow_bearer:
        request["allow_bearer"] = True
    if user:
        people = place(context).gateway.pages("/api/v1/users")
        request["user_id"] = only(people, user, "user_id", "login")["user_id"]
    if scopes is not None:
        request["scopes"] = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    invite = place(context).gateway.request("POST", INVITES, json=request)
    if png is not None:
        _write_png(png, invite["url"])
    if as_json:
        show(invite, as_json=True, human=say)
        return
    raise typer.Exit(Desk(place(context)).attend(invite))


@app.command("list")
@told
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """Invites that are open, claimed or ended lately."""
    rows = place(context).gateway.request("GET", INVITES)["rows"]
    lines = [
        (r["invite_id"], r["kind"], r["state"], _sms_cell(r), r["label"], " ".join(r["scopes"]), r["expires_at"])
        for r in rows
    ]
    head = ("INVITE", "KIND", "STATE", "SMS", "LABEL", "SCOPES", "UNTIL")
    show(rows, as_json=as_json, human=lambda: table(lines, head, empty="No invites. Make one with 'entobot pair'."))


@app.command("confirm")
@told
def confirm_(
    context: typer.Context,
    invite: Annotated[str, typer.Argument(help="The invite's id.")],
    code: Annotated[str, typer.Argument(help="The six digits that the phone shows.")] = "",
    approve: Annotated[bool, typer.Option("--approve", help="Say yes where no digits are to be typed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Confirm the device that claimed an invite."""
    gateway = place(context).gateway
    row = gateway.request("GET", f"{INVITES}/{invite}")
    if row["claim"] is None:
        raise Problem(Code.INVALID, f"No device has claimed this invite; it is {row['state']}.")
    if bool(code) == approve:
        raise Problem(Code.INVALID, "Give either the six digits that the phone shows, or --approve.")
    answer: dict[str, Any] = {"claim_id": row["claim"]["claim_id"]}
    answer |= {"approve": True} if approve else {"code": code.replace(" ", "")}
    result = gateway.request("POST", f"{INVITES}/{invite}/confirm", json=answer)
    show(result, as_json=as_json, human=lambda: say(f"Confirmed: {printable(row['claim']['device_name'])}."))


@app.command()
@told
def resend(
    context: typer.Context, invite: Annotated[str, typer.Argument(help="The invite's id.")], as_json: AsJson = False
) -> None:
    """Send an invite by SMS once more, with a new link; the old one is void."""
    result = place(context).gateway.request("POST", f"{INVITES}/{invite}/resend")
    show(result, as_json=as_json, human=lambda: _present_sms(result))


@app.command()
@told
def cancel(
    context: typer.Context, invite: Annotated[str, typer.Argument(help="The invite's id.")], as_json: AsJson = False
) -> None:
    """Void an invite."""
    result = place(context).gateway.request("DELETE", f"{INVITES}/{invite}")
    show(result or {"invite_id": invite}, as_json=as_json, human=lambda: say("Cancelled."))


def pair_in_terminal(where: Place) -> None:
    """Pair the first phone beside a gateway that has just started. Runs in a thread of its own."""
    try:
        invite = where.gateway.request("POST", INVITES, json={"kind": "qr", "label": "first start"})
        code = where.gateway.request("POST", INVITES, json={"kind": "code", "label": "first start"})
        Desk(where).attend(invite, code)
    except (Problem, OSError) as problem:
        hint(str(problem))


class Desk:
    """Watches invites until one of them is paired or all have ended."""

    def __init__(self, where: Place) -> None:
        self._gateway = where.gateway
        self._pause = threading.Event()

    def attend(self, invite: dict[str, Any], code: dict[str, Any] | None = None) -> int:
        """Show the invite, ask for the digits, tell how it ended; the exit code."""
        if invite["kind"] == "sms":
            _present_sms(invite)
        else:
            self._present(invite, code)
        if not sys.stdin.isatty():
            way = "DIGITS" if invite["confirm"] == "type" else "--approve"
            hint(f"Confirm with: entobot pair confirm {invite['invite_id']} {way}")
            return Exit.DONE
        claimed = self._wait_for(invite, code, "open", countdown=True)
        if code is not None:
            self._cancel(code if claimed["invite_id"] == invite["invite_id"] else invite)
        if claimed["state"] == "claimed":
            self._ask(claimed)
            claimed = self._wait_for(claimed, None, "claimed", "confirmed")
        if claimed["state"] != "paired":
            hint(ENDED.get(claimed["state"], f"The invite is {claimed['state']}."))
            return Exit.GAVE_UP
        say(f"Paired: {printable(claimed['claim']['device_name'])}. See it with 'entobot devices list'.")
        return Exit.DONE

    def _present(self, invite: dict[str, Any], code: dict[str, Any] | None) -> None:
        from entobot.core.qr import terminal

        say("\nScan this with the phone's camera:\n")
        say(terminal(invite["url"]))
        say(f"or open    {invite['url']}")
        if code is not None:
            shown = f"{code['code'][:4]}-{code['code'][4:]}"
            say(f"or type    {shown}    on the page {invite['url'].partition('#')[0]}")
        if invite["allow_bearer"]:
            say(
                f"or pair a board by the simple protocol: session_id {invite['invite_id']}, temp_token {invite['secret']}"
            )
            say("Weaker: a board holds an API key (30 days, chat only) instead of a key of its own.")
        say(f"Valid for {_seconds_until(invite['expires_at']) // 60} minutes, for one device.\n")

    def _wait_for(
        self, invite: dict[str, Any], other: dict[str, Any] | None, *states: str, countdown: bool = False
    ) -> dict[str, Any]:
        """The first of the invites that has left `states`."""
        watched = [one["invite_id"] for one in (invite, other) if one is not None]
        while True:
            rows = [self._gateway.request("GET", f"{INVITES}/{one}") for one in watched]
            moved = [row for row in rows if row["state"] not in states]
            alive = [row for row in moved if row["state"] not in ENDED]
            if alive or len(moved) == len(rows):
                _clear_line()
                return (alive or moved)[0]
            if countdown:
                sent = f" · SMS {_sms_cell(rows[0])}" if rows[0]["sms"] else ""
                _line(f"Waiting for the phone … {_clock(_seconds_until(rows[0]['expires_at']))}{sent}")
            self._pause.wait(POLL_S)

    def _ask(self, row: dict[str, Any]) -> None:
        claim = row["claim"]
        say(f"{printable(claim['device_name'])} ({claim['platform']}, {claim['address'] or 'this machine'}) wants in.")
        say(f"It may: {', '.join(row['scopes'])}. {_credential(claim)}")
        if claim["confirmation_code"]:
            say(
                f"Its screen shows {claim['confirmation_code']}. Ask the person whether theirs does: an SMS can be read"
            )
            say("by others, and whoever read this one shows other digits.")
        if row["is_contested"]:
            say("Careful: a second device tried this invite. Deny it if that was not you.")
        answer: dict[str, Any] = {"claim_id": claim["claim_id"]}
        if row["confirm"] == "type":
            answer["code"] = _digits()
        else:
            answer["approve"] = typer.confirm("Let it in?", default=False)
        try:
            self._gateway.request("POST", f"{INVITES}/{row['invite_id']}/confirm", json=answer)
        except Problem as problem:
            # Wrong digits end the invite; its state then says so, and what to do next.
            if problem.code is not Code.INVITE_BURNED:
                raise

    def _cancel(self, row: dict[str, Any]) -> None:
        try:
            self._gateway.request("DELETE", f"{INVITES}/{row['invite_id']}")
        except Problem:
            return  # it has ended by itself


def _present_sms(invite: dict[str, Any]) -> None:
    sms, minutes = invite["sms"], _seconds_until(invite["expires_at"]) // 60
    if sms["is_real"]:
        say(f"\nAn SMS goes to {sms['phone_number']} by {sms['provider']}. Its link is valid for {minutes} minutes.")
        say("The device gets nothing before you say yes.\n")
        return
    say(f"\nNothing was sent to {sms['phone_number']}: sms.provider is '{sms['provider']}', for development.")
    say(f"Open       {invite['url']}")
    say(f"or type    {invite['code']}    on the page {invite['url'].partition('#')[0]}\n")


def _sms_cell(row: dict[str, Any]) -> str:
    """The state of an invite's SMS, in one cell."""
    sms = row["sms"]
    if sms is None:
        return ""
    state = sms["state"].replace("_", " ")
    return f"{state}: {sms['reason']}" if sms["reason"] and sms["state"] in ("failed", "unknown") else state


def _credential(claim: dict[str, Any]) -> str:
    if claim["credential"] == "api_key":
        return "Weaker: it has no key of its own and gets an API key for 30 days."
    return f"Key {claim['key_thumbprint'][:12]}…"


def _digits() -> str:
    while True:
        typed = input("Type the six digits that the phone shows: ").replace(" ", "")
        if len(typed) == 6 and typed.isdigit():
            return typed
        say("Six digits, please. A wrong number voids the invite; a slip of the keys does not.")


def _write_png(path: Path, url: str) -> None:
    import os

    from entobot.core.qr import png

    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(png(url))


def _seconds_until(rfc3339: str) -> int:
    now = datetime.now(UTC)  # noqa: TID251  a countdown for the person at this terminal
    return max(0, round((datetime.fromisoformat(rfc3339) - now).total_seconds()))


def _clock(seconds: int) -> str:
    return f"{seconds // 60}:{seconds % 60:02d}"


def _line(text: str) -> None:
    if sys.stdout.isatty():
        sys.stdout.write(f"\r\x1b[K{text}")
        sys.stdout.flush()


def _clear_line() -> None:
    _line("")
