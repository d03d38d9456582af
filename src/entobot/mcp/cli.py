"""`entobot mcp`: started by an agent, speaks with it over standard input and output."""

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated

import typer

from entobot.client.console import Exit, hint, place, told
from entobot.client.trust import Trust, WrongKey
from entobot.core.clock import SystemClock
from entobot.mcp.human_rest import RestHuman, at_socket, at_url


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
    clock = SystemClock()
    if url and not token:
        hint("--url needs ENTOBOT_TOKEN: make one with 'entobot devices add-key NAME --scopes notify'.")
        raise typer.Exit(Exit.USAGE)
    way = (
        at_url(url, token, Trust(authority=authority), clock)
        if url
        else at_socket(place(context).home / "gateway.sock", clock)
    )
    try:
        asyncio.run(_run(way))
    except (OSError, WrongKey) as error:
        hint(f"{url}: {error}")
        raise typer.Exit(Exit.REFUSED) from None


async def _run(way: AbstractAsyncContextManager[RestHuman]) -> None:
    try:
        from entobot.mcp.server import build
    except ImportError:
        hint("This needs the package mcp: pip install 'entobot[mcp]'")
        raise typer.Exit(Exit.REFUSED) from None
    async with way as human:
        await build(human, SystemClock()).run_stdio_async()
