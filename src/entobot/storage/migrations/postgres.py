"""The schema of a PostgreSQL database: looked at with each start, brought up to date in a process of its own."""

import asyncio
import json
from typing import cast

from entobot.core.errors import StartupRefused
from entobot.storage.migrations import HEAD, REFUSED, refuse_newer, upgrade_command
from entobot.storage.postgres_connection import NOT_REACHED, Connection, PostgresAddress, reason

MIN_MAJOR = 15
LOCK = 0x656E746F626F74  # "entobot"
"""Advisory lock of whoever changes the schema: many nodes may start at once."""


async def upgrade_postgres(address: PostgresAddress) -> None:
    """Bring the schema to HEAD; make it in an empty database.

    Raises StartupRefused when the server is too old, not in UTF-8 or not reachable, when a newer version made the
    schema, and when a step fails: nothing is changed then.
    """
    try:
        connection = await address.connect()
        try:
            check_server(
                address, int(connection.get_server_version()[0]), await connection.fetchval("SHOW server_encoding")
            )
            present = await schema_version(connection)
        finally:
            await connection.close()
    except (*NOT_REACHED, ValueError) as error:
        raise StartupRefused(f"{address} cannot be used: {reason(error)}.") from None
    refuse_newer(str(address), present)
    if present != HEAD:
        await _upgrade(address)


def check_server(address: PostgresAddress, major: int, encoding: str) -> None:
    """Raises StartupRefused for a server that cannot hold the promises."""
    if major < MIN_MAJOR:
        raise StartupRefused(f"{address} is PostgreSQL {major}; {MIN_MAJOR} or newer is needed. Upgrade the server.")
    if encoding != "UTF8":
        raise StartupRefused(f"{address} is encoded in {encoding}. Make a database with ENCODING 'UTF8' for Entobot.")


async def schema_version(connection: Connection) -> str | None:
    """None when the database holds no schema of ours."""
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None
    return cast("str | None", await connection.fetchval("SELECT version_num FROM alembic_version"))


async def _upgrade(address: PostgresAddress) -> None:
    given = {"url": address.url, "password_file": None if address.password_file is None else str(address.password_file)}
    process = await asyncio.create_subprocess_exec(
        *upgrade_command("postgres"),
        stdin=asyncio.subprocess.PIPE,  # a password must not stand in the list of processes
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, errors = await process.communicate(json.dumps(given).encode())
    if process.returncode == REFUSED:
        raise StartupRefused(said.decode().strip())
    if process.returncode:
        raise StartupRefused(
            f"{address} could not be brought to schema {HEAD}:\n{errors.decode(errors='replace').strip()[-2000:]}"
        )
