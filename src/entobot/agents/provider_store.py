"""Table of model providers: a sealed key each, and what the last try of it said."""

from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, LargeBinary, Table, Text, select

from entobot.storage.database import Transaction, metadata
from entobot.storage.upsert import upsert

providers = Table(
    "model_providers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("sealed_key", LargeBinary),
    Column("key_set_at_ms", BigInteger),
    Column("tested_at_ms", BigInteger),
    Column("test_result", Text),
)

_ALL = select(providers)
_new_key = upsert(providers)
_PUT_KEY = _new_key.on_conflict_do_update(
    index_elements=["name"], set_={name: _new_key.excluded[name] for name in ("sealed_key", "key_set_at_ms")}
)
_new_test = upsert(providers)
_PUT_TEST = _new_test.on_conflict_do_update(
    index_elements=["name"], set_={name: _new_test.excluded[name] for name in ("tested_at_ms", "test_result")}
)


@dataclass(frozen=True, slots=True)
class ProviderRow:
    """`test_result` is JSON text of our own words."""

    sealed_key: bytes | None = None
    key_set_at_ms: int | None = None
    tested_at_ms: int | None = None
    test_result: str | None = None


def find_all(tx: Transaction) -> dict[str, ProviderRow]:
    return {
        row["name"]: ProviderRow(
            None if row["sealed_key"] is None else bytes(row["sealed_key"]),
            row["key_set_at_ms"],
            row["tested_at_ms"],
            row["test_result"],
        )
        for row in tx.rows(_ALL)
    }


def put_key(tx: Transaction, name: str, sealed_key: bytes | None, now_ms: int) -> None:
    """None takes the key away."""
    tx.run(_PUT_KEY, _row(name, sealed_key=sealed_key, key_set_at_ms=None if sealed_key is None else now_ms))


def put_test(tx: Transaction, name: str, test_result: str, now_ms: int) -> None:
    tx.run(_PUT_TEST, _row(name, tested_at_ms=now_ms, test_result=test_result))


def _row(name: str, **given: object) -> dict[str, object]:
    empty = dict.fromkeys(("sealed_key", "key_set_at_ms", "tested_at_ms", "test_result"))
    return {"name": name, **empty, **given}
