"""Looks at the server every second over a connection of its own, so that an idle gateway, too, knows how it is."""

import asyncio
from contextlib import suppress

from entobot.storage.database import Durability
from entobot.storage.postgres_connection import NOT_REACHED, Connect, Connection, reason
from entobot.storage.postgres_durability import read_durability
from entobot.storage.postgres_lane import Health

EVERY_S = 1.0
ANSWER_S = 3.0
WRITER_NAME = "entobot writer"
_OTHERS = f"""
SELECT count(*) FILTER (WHERE wait_event = 'SyncRep' AND query_start < clock_timestamp() - interval '2 s') AS hanging,
    count(*) FILTER (WHERE application_name = '{WRITER_NAME}') AS writers
FROM pg_stat_activity WHERE usename = current_user AND datname = current_database()
"""  # noqa: S608  a name of ours
NO_STANDBY = (
    "commits wait for a synchronous standby that is not connected. Bring it back, or take it out of "
    "synchronous_standby_names"
)


class Watch:
    """`durability` is as of the last look. What it finds wrong stands in `health` until it is found to be over."""

    def __init__(self, connect: Connect, health: Health) -> None:
        self._connect = connect
        self._health = health
        self._connection: Connection | None = None
        self.durability = Durability(survives_power_cut=False, detail="not started")

    async def run(self) -> None:
        try:
            while True:
                await self.look()
                await asyncio.sleep(EVERY_S)
        finally:
            if self._connection is not None:
                self._connection.terminate()

    async def look(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                if self._connection is None or self._connection.is_closed():
                    self._connection = await self._connect()
                self.durability = await read_durability(self._connection)
                row = await self._connection.fetchrow(_OTHERS)
                assert row is not None, "a row of counts"
                # Each one that hangs holds a connection of the server; more would take all that it has.
                self._health.is_hanging = row["hanging"] > 0
                self._health.is_shared = row["writers"] > 1
                self._health.trouble = NO_STANDBY if self._health.is_hanging else ""
        except (*NOT_REACHED, ValueError) as error:
            self._health.trouble = f"the database cannot be reached: {reason(error)}"
            self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*NOT_REACHED):
                connection.terminate()
