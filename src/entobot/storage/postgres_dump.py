"""Dump and restore a PostgreSQL database by the server's own tools, of one snapshot that is counted and verified."""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from entobot.core.errors import StartupRefused
from entobot.storage.copying import quoted
from entobot.storage.migrations import refuse_newer
from entobot.storage.migrations.postgres import schema_version
from entobot.storage.postgres_connection import NOT_REACHED, Connection, PostgresAddress, reason
from entobot.storage.snapshot import Contents

COPY_START = b"COPY "
COPY_END = b"\\."
LINE_BYTES = 64 * 1024 * 1024

Look = Callable[[Connection], Awaitable[object]]
"""Something to be done with the open snapshot."""


def find_tool(name: str) -> str:
    """Raises StartupRefused when PostgreSQL's client tools are not there."""
    found = shutil.which(name)
    if found is None:
        raise StartupRefused(
            f"{name} is not on PATH. A backup of PostgreSQL needs its client tools, of the server's version or newer: "
            "on Debian and Ubuntu 'apt install postgresql-client'."
        )
    return found


async def dump(address: PostgresAddress, target: Path, look: Look | None = None) -> Contents:
    """Write the database in pg_dump's custom format. `look` sees the same snapshot. Raises StartupRefused."""
    tool = find_tool("pg_dump")
    try:
        connection = await address.connect()
    except (*NOT_REACHED, ValueError) as error:
        raise StartupRefused(f"{address} cannot be used: {reason(error)}.") from None
    try:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        snapshot = str(await connection.fetchval("SELECT pg_export_snapshot()"))
        found = await _contents(address, connection)
        if look is not None:
            await look(connection)
        await _run(
            address, tool, "--format=custom", f"--snapshot={snapshot}", "--no-owner", "--no-acl", f"--file={target}"
        )
    finally:
        await connection.close(timeout=5)
    return found


async def _contents(address: PostgresAddress, connection: Connection) -> Contents:
    present = await schema_version(connection)
    if present is None:
        raise StartupRefused(f"{address} holds no schema of Entobot. Start the gateway once.")
    refuse_newer(str(address), present)
    names = await connection.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename <> 'alembic_version'"
    )
    tables = {
        str(row["tablename"]): int(await connection.fetchval(f"SELECT count(*) FROM {quoted(row['tablename'])}"))  # noqa: S608  a table of ours
        for row in names
    }
    head = await connection.fetchrow("SELECT log_id, seq, hash FROM audit_head")
    return Contents(present, tables, None if head is None else (head["log_id"], int(head["seq"]), bytes(head["hash"])))


async def load(address: PostgresAddress, source: Path) -> None:
    """Restore a dump into an empty database, all of it or nothing. Raises StartupRefused."""
    tool = find_tool("pg_restore")
    await _run(address, tool, "--single-transaction", "--exit-on-error", "--no-owner", "--no-acl", str(source))


async def refuse_used(address: PostgresAddress) -> None:
    """Raises StartupRefused when the database cannot be reached, or holds a table."""
    try:
        connection = await address.connect()
    except (*NOT_REACHED, ValueError) as error:
        raise StartupRefused(f"{address} cannot be used: {reason(error)}.") from None
    try:
        used = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()")
    finally:
        await connection.close(timeout=5)
    if used:
        raise StartupRefused(f"{address} is not empty. A restore needs a new database: createdb, then storage.url.")


async def count_rows(source: Path) -> dict[str, int]:
    """The rows of each table in a dump, read as pg_restore would load them. Raises StartupRefused."""
    process = await asyncio.create_subprocess_exec(
        find_tool("pg_restore"),
        "--data-only",
        "--file=-",
        str(source),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    saying = asyncio.create_task(process.stderr.read())
    found: dict[str, int] = {}
    table: str | None = None
    async for line in process.stdout:
        if table is None and line.startswith(COPY_START):
            table = line.split()[1].decode().rpartition(".")[2].strip('"')
            found[table] = 0
        elif table is not None and line.rstrip(b"\n") == COPY_END:
            table = None
        elif table is not None:
            found[table] += 1
    said = await saying
    if await process.wait():
        raise StartupRefused(f"The dump cannot be read: {said.decode(errors='replace').strip()[-500:]}")
    found.pop("alembic_version", None)
    return found


async def _run(address: PostgresAddress, tool: str, *arguments: str) -> None:
    url, password = await asyncio.to_thread(_split, address)
    environment = dict(os.environ)  # noqa: TID251  the tools find their libraries, passfile and certificates by it
    if password:
        environment["PGPASSWORD"] = password  # a password must not stand in the list of processes
    process = await asyncio.create_subprocess_exec(
        tool,
        "--no-password",
        f"--dbname={url}",
        *arguments,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    if process.returncode:
        text = said.decode(errors="replace").strip()[-1000:]
        raise StartupRefused(f"{Path(tool).name} failed on {address}:\n{text}")


def _split(address: PostgresAddress) -> tuple[str, str]:
    """The URL without its password, and the password that counts."""
    parts = urlsplit(address.url)
    user, _, host = parts.netloc.rpartition("@")
    name, _, inline = user.partition(":")
    given = "" if address.password_file is None else address.password_file.read_text("utf-8").strip()
    netloc = f"{name}@{host}" if name else host
    return urlunsplit(parts._replace(netloc=netloc)), given or unquote(inline)
