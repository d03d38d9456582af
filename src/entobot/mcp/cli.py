"""`entobot mcp` and `entobot approve-hook`: started by an agent, speak with it over standard input and output."""

import asyncio
import json
import sys
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from entobot.client.console import Exit, hint, place, told
from entobot.core.clock import Clock, SystemClock

if TYPE_CHECKING:
    from entobot.mcp.human_rest import RestHuman

Url = Annotated[str, typer.Option(envvar="ENTOBOT_URL", help="A gateway elsewhere. Else: the one of this data folder.")]
Token = Annotated[
    str,
    typer.Option(envvar="ENTOBOT_TOKEN", help="For --url: an API key with the scope notify. Better by the variable."),
]
Authority = Annotated[
    Path | None,
    typer.Option(envvar="ENTOBOT_AUTHORITY", help="For --url: PEM of the authority to trust, such as tls/ca.crt."),
]
BLOCK = 2
"""What agents take for a no, whatever stands on standard output."""


@told
def mcp(context: typer.Context, url: Url = "", token: Token = "", authority: Authority = None) -> None:
    """Let an agent tell and ask people: a Model Context Protocol server on standard input and output."""
    _check(url, token)
    asyncio.run(_run(place(context).home / "gateway.sock", url, token, authority))


async def _run(socket: Path, url: str, token: str, authority: Path | None) -> None:
    try:
        from entobot.mcp.courier import offer_files
        from entobot.mcp.server import build
    except ImportError:
        hint("This needs the package mcp: pip install 'entobot[mcp]'")
        raise typer.Exit(Exit.REFUSED) from None
    from entobot.client.trust import WrongKey

    clock = SystemClock()
    try:
        async with _reach(socket, url, token, authority, clock) as human:
            server = build(human, clock)
            offer_files(server, human.send)
            await server.run_stdio_async()
    except (OSError, WrongKey) as error:
        hint(f"{url or socket}: {error}")
        raise typer.Exit(Exit.REFUSED) from None


@told
def approve_hook(
    context: typer.Context,
    url: Url = "",
    token: Token = "",
    authority: Authority = None,
    wait_s: Annotated[
        int,
        typer.Option("--wait", min=1, max=86_400, help="Seconds to wait for the person; less than the hook may take."),
    ] = 600,
    risk: Annotated[
        str, typer.Option(help="low, medium or high, which takes a passkey. Policies raise it.")
    ] = "medium",
    edits: Annotated[
        bool,
        typer.Option("--edits", help="Your agent carries out changed input ('updatedInput'); people may change it."),
    ] = False,
) -> None:
    """As a hook of a coding agent: ask for approval of the tool call on standard input. Exits 0 for yes, 2 for no."""
    from entobot.mcp.hook import MAX_EVENT_BYTES, Refused, Terms, approve, show_on_terminal

    _check(url, token)
    event = sys.stdin.read(MAX_EVENT_BYTES + 1)
    terms = Terms(risk, wait_s, takes_edits=edits)

    async def ask() -> Any:
        if len(event) > MAX_EVENT_BYTES:
            raise Refused("The call is too large to be shown to a person.")
        clock = SystemClock()
        async with _reach(place(context).home / "gateway.sock", url, token, authority, clock) as human:
            return await approve(event, human, clock, terms, show_on_terminal)

    typer.echo(json.dumps(_or_block(ask())))


def _or_block(asking: Coroutine[Any, Any, Any]) -> Any:
    """Everything that is no yes is a no, also what nobody thought of."""
    try:
        return asyncio.run(asking)
    except Exception as error:  # noqa: BLE001  whatever it was, nobody has said yes
        typer.echo(str(error) or type(error).__name__, err=True)
        raise typer.Exit(BLOCK) from None


def _check(url: str, token: str) -> None:
    if url and not token:
        hint("--url needs ENTOBOT_TOKEN: make one with 'entobot devices add-key NAME --scopes notify'.")
        raise typer.Exit(Exit.USAGE)


def _reach(
    socket: Path, url: str, token: str, authority: Path | None, clock: Clock
) -> "AbstractAsyncContextManager[RestHuman]":
    from entobot.client.trust import Trust
    from entobot.mcp.human_rest import at_socket, at_url

    return at_url(url, token, Trust(authority=authority), clock) if url else at_socket(socket, clock)
