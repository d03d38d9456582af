"""Stored settings beside a gateway: read without touching the store, and taken back while none runs."""

import asyncio
import json
import sqlite3
from contextlib import closing
from typing import Any

from entobot.app.offline import open_offline
from entobot.app.store import find_address
from entobot.client.console import Place
from entobot.client.local import GatewayNotRunning
from entobot.config import StorageSettings
from entobot.core.clock import SystemClock
from entobot.core.errors import StartupRefused
from entobot.core.secrets import SystemEntropy
from entobot.home import Home
from entobot.settings.service import take_back
from entobot.sources import load, system_environment

_QUERY = "SELECT key, value FROM stored_settings"


def read_offline(home: Home, storage: StorageSettings) -> dict[str, Any]:
    """Values by key; empty where there is no store yet, or one of an older version. Blocks.

    Raises StartupRefused when there is one that cannot be read.
    """
    if storage.url.get_secret_value():
        return asyncio.run(_read_postgres(storage))
    if not home.database.exists():
        return {}
    try:
        with closing(sqlite3.connect(f"{home.database.as_uri()}?mode=ro", uri=True)) as connection:
            has_table = "SELECT 1 FROM sqlite_master WHERE name = 'stored_settings'"
            rows = connection.execute(_QUERY).fetchall() if connection.execute(has_table).fetchone() else []
    except sqlite3.Error as error:
        raise StartupRefused(f"{home.database} cannot be read: {error}.") from None
    return {str(key): json.loads(value) for key, value in rows}


async def _read_postgres(storage: StorageSettings) -> dict[str, Any]:
    address = find_address(storage)
    from entobot.storage.postgres_connection import NOT_REACHED, reason

    try:
        connection = await address.connect()
        try:
            if await connection.fetchval("SELECT to_regclass('stored_settings')") is None:
                return {}
            rows = await connection.fetch(_QUERY)
        finally:
            await connection.close(timeout=5)
    except (*NOT_REACHED, ValueError) as error:
        raise StartupRefused(f"{address} cannot be read: {reason(error)}.") from None
    return {str(row["key"]): json.loads(row["value"]) for row in rows}


def unset(place: Place, keys: list[str]) -> list[str]:
    """Take back what is stored under these keys: over the gateway where one runs, so that it follows at once.

    Returns those that there were. Blocks. Raises Problem and StartupRefused.
    """
    try:
        found = place.gateway.request("GET", "/api/v1/settings")
        there = {field["key"] for section in found["sections"] for field in section["fields"] if field["changed"]}
        there |= {row["key"] for row in found["refused"]}
        taken = sorted(there & set(keys))
        body = {"version": found["version"], "changes": dict.fromkeys(taken)}
        place.gateway.request("PATCH", "/api/v1/settings", json=body)
    except GatewayNotRunning:
        home = Home(place.home)
        return unset_offline(home, load(home.path, system_environment()).storage, keys)
    return taken


def unset_offline(home: Home, storage: StorageSettings, keys: list[str]) -> list[str]:
    """Take back what is stored under these keys; those that there were. Blocks. Raises StartupRefused."""
    home.refuse_unfinished()
    if not home.keys.exists():
        return []
    with home.lock():
        return asyncio.run(_unset(home, storage, keys))


async def _unset(home: Home, storage: StorageSettings, keys: list[str]) -> list[str]:
    clock = SystemClock()
    offline = open_offline(home, storage, clock, SystemEntropy())
    await offline.database.start()
    try:
        await offline.audit.start(offline.database.write, clock.now_ms())
        now_ms = clock.now_ms()
        taken = await offline.database.write(lambda tx: take_back(tx, offline.audit, keys, now_ms))
        await offline.audit.seal(offline.database.write, clock.now_ms())
    finally:
        await offline.database.stop()
    return taken
