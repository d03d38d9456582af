"""What an acknowledged commit survives, as the server's own settings say."""

from entobot.storage.database import Durability
from entobot.storage.postgres_connection import Connection

SETTINGS = ("fsync", "full_page_writes", "synchronous_commit", "synchronous_standby_names")
_SETTINGS = "SELECT " + ", ".join(f"current_setting('{name}') AS {name}" for name in SETTINGS)
_ALWAYS_FLUSHED = ("local", "on", "remote_apply", "remote_write")


async def read_settings(connection: Connection) -> dict[str, str]:
    """The settings of this session, by name."""
    row = await connection.fetchrow(_SETTINGS)
    assert row is not None, "a row of functions"
    return {name: str(row[name]) for name in SETTINGS}


def judge(settings: dict[str, str]) -> Durability:
    """Weaker than fsynced where the primary may forget it in a power cut, or a standby that was asked for may lack it."""
    weak = [name for name in ("fsync", "full_page_writes") if settings[name] != "on"]
    commit, standbys = settings["synchronous_commit"], settings["synchronous_standby_names"]
    if commit not in _ALWAYS_FLUSHED or (standbys and commit in ("local", "remote_write")):
        weak.append("synchronous_commit")
    shown = " ".join(f"{name}={settings[name]}" for name in SETTINGS if settings[name])
    return Durability(
        survives_power_cut=not weak, detail=f"PostgreSQL {shown}", fix=f"Set {' and '.join(weak)} to on in PostgreSQL."
    )


async def read_durability(connection: Connection) -> Durability:
    return judge(await read_settings(connection))
