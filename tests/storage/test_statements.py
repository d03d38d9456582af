"""Statements are rendered for both databases."""

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
