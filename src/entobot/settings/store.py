"""Table of stored settings: one row for each key that was changed. Never a secret."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, Table, Text, bindparam, delete, select

from entobot.nodes.marks import Mark, read_marks
from entobot.storage.database import Transaction, metadata
from entobot.storage.upsert import upsert

settings = Table(
    "stored_settings",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("changed_at_ms", BigInteger, nullable=False),
    Column("changed_by", Text, nullable=False),
)

_ALL = select(settings).order_by(settings.c.key)
_new = upsert(settings)
_PUT = _new.on_conflict_do_update(
    index_elements=["key"], set_={name: _new.excluded[name] for name in ("value", "changed_at_ms", "changed_by")}
)
_DELETE = delete(settings).where(settings.c.key == bindparam("which"))


@dataclass(frozen=True, slots=True)
class Row:
    """`value` as in JSON; `changed_by` a user id, empty for the command line on a gateway that is stopped."""

    value: Any
    changed_at_ms: int
    changed_by: str


@dataclass(frozen=True, slots=True)
class Stored:
    """`version` moves with every change, also of what is kept beside these rows (keys of models)."""

    version: int
    rows: Mapping[str, Row]

    @property
    def values(self) -> dict[str, Any]:
        return {key: row.value for key, row in self.rows.items()}


def find_all(tx: Transaction) -> Stored:
    rows = {row["key"]: Row(json.loads(row["value"]), row["changed_at_ms"], row["changed_by"]) for row in tx.rows(_ALL)}
    return Stored(read_marks(tx).get(Mark.SETTINGS, 0), rows)


def put(tx: Transaction, key: str, row: Row) -> None:
    tx.run(
        _PUT,
        {
            "key": key,
            "value": json.dumps(row.value),
            "changed_at_ms": row.changed_at_ms,
            "changed_by": row.changed_by,
        },
    )


def remove(tx: Transaction, key: str) -> None:
    tx.run(_DELETE, {"which": key})
