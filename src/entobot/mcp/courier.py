"""Files of an agent, put before the person: by their path where the server runs on the agent's machine, else as content."""

import asyncio
import binascii
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

MAX_CONTENT_BYTES = 640 * 1024
"""Of a file in a call: one request to the gateway holds a mebibyte, and base64 takes a third more."""
MAX_CONTENT_CHARACTERS = -(-MAX_CONTENT_BYTES // 3) * 4
Send = Callable[..., Awaitable[Row]]
"""`human_rest.RestHuman.send`: a method, a path, and options of httpx. Raises Problem."""
Part = Callable[[int, int], Awaitable[bytes]]
"""So many bytes from here."""


def offer_files(server: MCPServer, send: Send) -> None:
    """Give a server on the agent's machine the tool `send_file`."""

    async def send_file(
        path: Annotated[str, Field(min_length=1, max_length=4096, description="Of a file on your machine.")],
        text: Annotated[str, Field(max_length=4000, description="What it is, in a sentence.")] = "",
    ) -> dict[str, Any]:
        """Give the person a file: a report, a picture, a log. It stands in a conversation of yours on their phone."""
        try:
            return await _deliver_path(send, Path(path), text)
        except OSError as error:
            raise ToolError(f"{path} cannot be read: {error.strerror or type(error).__name__}.") from None
        except Problem as problem:
            raise ToolError(f"{problem.code}: {problem.detail}") from None

    server.tool(annotations=ToolAnnotations(destructive_hint=False, open_world_hint=True))(send_file)


def offer_contents(server: MCPServer, send: Send) -> None:
    """The same tool of a server elsewhere, to which a path says nothing."""

    async def send_file(
        name: Annotated[str, Field(min_length=1, max_length=255, description="As in report.pdf.")],
        content: Annotated[
            str,
            Field(max_length=MAX_CONTENT_CHARACTERS, description=f"Base64, of {MAX_CONTENT_BYTES} bytes at most."),
        ],
        text: Annotated[str, Field(max_length=4000, description="What it is, in a sentence.")] = "",
    ) -> dict[str, Any]:
        """Give the person a file: a report, a picture, a log. It stands in a conversation of yours on their phone."""
        try:
            data = binascii.a2b_base64(content.encode("ascii"), strict_mode=True)
        except ValueError:  # binascii.Error among them
            raise ToolError("`content` is not base64: the standard alphabet, padded, in one line.") from None

        async def part(start: int, count: int) -> bytes:
            return data[start : start + count]

        try:
            return await _deliver(send, name, len(data), part, text)
        except Problem as problem:
            raise ToolError(f"{problem.code}: {problem.detail}") from None

    server.tool(annotations=ToolAnnotations(destructive_hint=False, open_world_hint=True))(send_file)


async def _deliver_path(send: Send, path: Path, text: str) -> Row:
    size = (await asyncio.to_thread(path.stat)).st_size

    async def part(start: int, count: int) -> bytes:
        return await asyncio.to_thread(_part, path, start, count)

    return await _deliver(send, path.name, size, part, text)


async def _deliver(send: Send, name: str, size: int, part: Part, text: str) -> Row:
    file = await send("POST", AT, json={"name": name, "size": size})
    one = f"{AT}/{file['file_id']}"
    for number in file["missing"]:
        data = await part(number * file["part_bytes"], file["part_bytes"])
        await send("PUT", f"{one}/parts/{number}", content=data, headers=BYTES)
    await send("POST", f"{one}/finish")
    return await send("POST", f"{one}/send", json={"text": text})


def _part(path: Path, start: int, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(count)
