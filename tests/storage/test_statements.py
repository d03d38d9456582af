"""Statements are rendered for both databases."""

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, bindparam, insert, update
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from entobot.storage.compiled import StatementCache
from entobot.storage.postgres_transaction import make_statements
from entobot.storage.upsert import upsert
from tests.contracts.test_database import things


def test_an_upsert_is_the_same_sentence_in_both() -> None:
    new = upsert(things)
    statements = [
        new.on_conflict_do_nothing(),
        new.on_conflict_do_nothing(index_elements=["name"]),
        new.on_conflict_do_update(index_elements=["name"], set_={"amount": new.excluded.amount}),
    ]
    sqlite, postgres = StatementCache(SQLiteDialect_pysqlite(paramstyle="qmark")), make_statements()
    for statement in statements:
        given = {"name": "a", "amount": 1}
        in_sqlite, values = sqlite.render(statement, given)
        in_postgres, same_values = postgres.render(statement, given)
        assert in_postgres.replace("$1::VARCHAR", "?").replace("$2::INTEGER", "?") == in_sqlite
        assert values == same_values == ["a", 1]


def test_a_known_statement_takes_other_columns_and_another_order_for_what_they_are() -> None:
    """Values of a statement that was rendered before are picked by the names of that time."""
    table = Table("t", MetaData(), *(Column(name, Integer) for name in "abc"))
    add, cache = insert(table), StatementCache(SQLiteDialect_pysqlite(paramstyle="qmark"))
    for _ in range(3):
        for given in ({"a": 1, "b": 2}, {"a": 3, "c": 4}, {"b": 6, "a": 5}, {"a": 7, "b": 8, "c": 9}):
            sql, values = cache.render(add, given)
            names = sql.partition("(")[2].partition(")")[0].split(", ")
            assert dict(zip(names, values, strict=True)) == given


def test_a_value_that_is_missing_is_no_value_of_before() -> None:
    table = Table("t", MetaData(), Column("a", Integer), Column("b", Integer))
    change = update(table).where(table.c.a == bindparam("which")).values(b=bindparam("to"))
    cache = StatementCache(SQLiteDialect_pysqlite(paramstyle="qmark"))
    assert list(cache.render(change, {"which": 1, "to": 2})[1]) == [2, 1]
    for given in ({"which": 1}, {"which": 1, "other": 2}):
        with pytest.raises(KeyError):
            cache.render(change, given)
