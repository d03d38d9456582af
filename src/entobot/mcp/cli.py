"""`entobot mcp`: started by an agent, speaks with it over standard input and output."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from entobot.client.console import Exit, hint, place, told
from entobot.core.clock import SystemClock


@told
def mcp(
    context: typer.Context,
    url: Annotated[
        str, typer.Option(envvar="ENTOBOT_URL", help="A gateway elsewhere. Else: the one of this data folder.")
    ] = "",
    token: Annotated[
        str,
        typer.Option(
            envvar="ENTOBOT_TOKEN", help="For --url: an API key with the scope notify. Better by the variable."
        ),
    ] = "",
    authority: Annotated[
        Path | None,
        typer.Option(envvar="ENTOBOT_AUTHORITY", help="For --url: PEM of the authority to trust, such as tls/ca.crt."),
    ] = None,
) -> None:
    """Let an agent tell and ask people: a Model Context Protocol server on standard input and output."""
    if url and not token:
        hint("--url needs ENTOBOT_TOKEN: make one with 'entobot devices add-key NAME --scopes notify'.")
        raise typer.Exit(Exit.USAGE)
    asyncio.run(_run(place(context).home / "gateway.sock", url, token, authority))


async def _run(socket: Path, url: str, token: str, authority: Path | None) -> None:
    try:
        from entobot.mcp.server import build
    except ImportError:
        hint("This needs the package mcp: pip install 'entobot[mcp]'")
        raise typer.Exit(Exit.REFUSED) from None
    from entobot.client.trust import Trust, WrongKey
    from entobot.mcp.human_rest import at_socket, at_url

    clock = SystemClock()
    try:
        async with at_url(url, token, Trust(authority=authority), clock) if url else at_socket(socket, clock) as human:
            await build(human, clock).run_stdio_async()
    except (OSError, WrongKey) as error:
        hint(f"{url or socket}: {error}")
        raise typer.Exit(Exit.REFUSED) from None
