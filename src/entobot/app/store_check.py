"""`entobot db check`: what the store is, and whether it keeps what it takes."""

import asyncio
import sqlite3
import statistics
import time
from contextlib import closing
from typing import TYPE_CHECKING

from entobot.app.doctor import Finding, Level
from entobot.app.store import find_address
from entobot.config import StorageSettings
from entobot.core.errors import StartupRefused
from entobot.home import Home
from entobot.storage.migrations import HEAD, version

if TYPE_CHECKING:
    from entobot.storage.postgres_connection import Connection, PostgresAddress

QUESTIONS = 20
SLOW_MS = 5.0
CONNECTIONS_OF_A_NODE = 7
"""One that writes, four that read, one that watches, one for the bus."""
MIGRATE = "Run 'entobot db migrate', or start the gateway."


async def check(home: Home, storage: StorageSettings) -> list[Finding]:
    """Touches nothing. Raises StartupRefused when the settings name no store."""
    if not storage.url.get_secret_value():
        return await asyncio.to_thread(_sqlite, home)
    address = find_address(storage)
    from entobot.storage.postgres_connection import NOT_REACHED, reason

    try:
        connection = await address.connect()
    except (*NOT_REACHED, ValueError) as error:
        detail = f"{address} cannot be used: {reason(error)}."
        return [Finding("connection", Level.FAILURE, detail, "Check storage.url, the password and the server.")]
    try:
        return await _postgres(address, connection)
    finally:
        await connection.close(timeout=5)


def _sqlite(home: Home) -> list[Finding]:
    path = home.database
    if not path.exists():
        return [Finding("store", Level.OK, f"SQLite, made at first start in {path}.")]
    findings = [
        Finding("store", Level.OK, f"SQLite, {path}, {path.stat().st_size // 1024} KiB."),
        _schema(version(path)),
    ]
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            said = str(connection.execute("PRAGMA quick_check").fetchone()[0])
    except sqlite3.Error as error:
        said = str(error)
    whole = Finding("pages", Level.OK, "Whole.") if said == "ok" else None
    return [*findings, whole or Finding("pages", Level.FAILURE, said, "Restore a backup.")]


async def _postgres(address: "PostgresAddress", connection: "Connection") -> list[Finding]:
    from entobot.storage.migrations.postgres import check_server, schema_version
    from entobot.storage.postgres_durability import judge, read_settings

    major = int(connection.get_server_version()[0])
    findings = [await _latency(address, connection, major)]
    try:
        check_server(address, major, str(await connection.fetchval("SHOW server_encoding")))
    except StartupRefused as refusal:
        findings.append(Finding("server", Level.FAILURE, str(refusal)))
    findings.append(_schema(await schema_version(connection)))
    settings = await read_settings(connection)
    durability = judge(settings)
    findings.append(
        Finding("durability", Level.OK, durability.detail)
        if durability.survives_power_cut
        else Finding("durability", Level.FAILURE, durability.detail, durability.fix)
    )
    findings.append(await _standby(connection, settings["synchronous_standby_names"]))
    findings.append(await _room(connection))
    return findings


async def _latency(address: "PostgresAddress", connection: "Connection", major: int) -> Finding:
    took: list[float] = []
    for _ in range(QUESTIONS):
        began_s = time.perf_counter()
        await connection.fetchval("SELECT 1")
        took.append((time.perf_counter() - began_s) * 1000)
    median_ms = statistics.median(took)
    detail = f"{address}, PostgreSQL {major}, answers in {median_ms:.2f} ms."
    if median_ms > SLOW_MS:
        fix = "A command asks about ten times, one after another: put the gateway near the server."
        return Finding("connection", Level.WARNING, detail, fix)
    return Finding("connection", Level.OK, detail)


def _schema(present: str | None) -> Finding:
    if present is None:
        return Finding("schema", Level.WARNING, "There is none yet.", MIGRATE)
    if present < HEAD:
        return Finding("schema", Level.WARNING, f"It is {present}; this version needs {HEAD}.", MIGRATE)
    if present > HEAD:
        detail = f"It is {present}, of a newer Entobot; this one knows up to {HEAD}, and leaves it alone."
        fix = "Start the newer version again, or restore the backup made before the upgrade into an empty data folder."
        return Finding("schema", Level.FAILURE, detail, fix)
    return Finding("schema", Level.OK, f"It is {HEAD}, as needed.")


async def _standby(connection: "Connection", names: str) -> Finding:
    if not names:
        return Finding("standby", Level.OK, "None is waited for: a commit is on this server's disk alone.")
    count = int(await connection.fetchval("SELECT count(*) FROM pg_stat_replication"))
    if count == 0:
        detail = f"synchronous_standby_names is {names}, and no standby is connected: commits hang."
        return Finding("standby", Level.FAILURE, detail, "Connect the standby, or take it out of the setting.")
    return Finding("standby", Level.OK, f"{count} connected; commits wait for {names}.")


async def _room(connection: "Connection") -> Finding:
    row = await connection.fetchrow(
        "SELECT current_setting('max_connections')::int AS most, (SELECT count(*) FROM pg_stat_activity "
        "WHERE backend_type = 'client backend') AS used"
    )
    assert row is not None, "a row of functions"
    free = int(row["most"]) - int(row["used"])
    detail = f"{row['used']} of {row['most']} used; a gateway takes up to {CONNECTIONS_OF_A_NODE}."
    if free < CONNECTIONS_OF_A_NODE:
        return Finding("connections", Level.WARNING, detail, "Raise max_connections.")
    return Finding("connections", Level.OK, detail)
