"""Files of the agent's machine, put before the person. Only where the server runs on that very machine."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from entobot.core.errors import Problem
from entobot.mcp.human import Row

AT = "/api/v1/files"
BYTES = {"Content-Type": "application/octet-stream"}

Send = Callable[..., Awaitable[Row]]
"""`human_rest.RestHuman.send`: a method, a path, and options of httpx. Raises Problem."""


def offer_files(server: MCPServer, send: Send) -> None:
    """Give the server the tool `send_file`."""

    async def send_file(
        path: Annotated[str, Field(min_length=1, max_length=4096, description="Of a file on your machine.")],
        text: Annotated[str, Field(max_length=4000, description="What it is, in a sentence.")] = "",
    ) -> dict[str, Any]:
        """Give the person a file: a report, a picture, a log. It stands in a conversation of yours on their phone."""
        try:
            return await _deliver(send, Path(path), text)
        except OSError as error:
            raise ToolError(f"{path} cannot be read: {error.strerror or type(error).__name__}.") from None
        except Problem as problem:
            raise ToolError(f"{problem.code}: {problem.detail}") from None

    server.tool(annotations=ToolAnnotations(destructive_hint=False, open_world_hint=True))(send_file)


async def _deliver(send: Send, path: Path, text: str) -> Row:
    size = (await asyncio.to_thread(path.stat)).st_size
    file = await send("POST", AT, json={"name": path.name, "size": size})
    one = f"{AT}/{file['file_id']}"
    for number in file["missing"]:
        data = await asyncio.to_thread(_part, path, number * file["part_bytes"], file["part_bytes"])
        await send("PUT", f"{one}/parts/{number}", content=data, headers=BYTES)
    await send("POST", f"{one}/finish")
    return await send("POST", f"{one}/send", json={"text": text})


def _part(path: Path, start: int, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(count)
