"""Bring a database to HEAD with Alembic; run in a process of its own, see `upgrade_sqlite` and `upgrade_postgres`."""

import asyncio
import json
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text

from entobot.storage.migrations import HEAD, REFUSED, newer_text, version


def main(where: str) -> int:
    """`where` is the path of a SQLite file, or `postgres`: then standard input has the address as JSON.

    The exit code; for REFUSED the reason is on standard output.
    """
    return asyncio.run(_postgres(sys.stdin.read())) if where == "postgres" else _sqlite(Path(where))


def _sqlite(path: Path) -> int:
    config = alembic_config()
    if _refuses(config, str(path), version(path)):
        return REFUSED
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        _upgrade(connection, config)
    engine.dispose()
    return 0


async def _postgres(given: str) -> int:
    from sqlalchemy.ext.asyncio import create_async_engine

    from entobot.storage.migrations.postgres import LOCK, schema_version
    from entobot.storage.postgres_connection import PostgresAddress

    read = json.loads(given)
    file = read["password_file"]
    address = PostgresAddress(read["url"], None if file is None else Path(file))
    own = await address.connect()
    config = alembic_config()
    engine = create_async_engine("postgresql+asyncpg://", async_creator=address.connect)
    try:
        await own.execute("SELECT pg_advisory_lock($1)", LOCK)  # until this connection ends; then look again
        present = await schema_version(own)
        if _refuses(config, str(address), present):
            return REFUSED
        if present != HEAD:
            async with engine.begin() as connection:
                await connection.execute(text("SET LOCAL lock_timeout = '60s'"))
                await connection.run_sync(_upgrade, config)
    finally:
        await engine.dispose()
        await own.close()
    return 0


def alembic_config() -> Config:
    """Without a database: put its connection into `attributes`."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def _refuses(config: Config, where: str, present: str | None) -> bool:
    known = {revision.revision for revision in ScriptDirectory.from_config(config).walk_revisions()}
    if present is None or present in known:
        return False
    sys.stdout.write(newer_text(where, present))
    return True


def _upgrade(connection: Connection, config: Config) -> None:
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
