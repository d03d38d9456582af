"""An index of some of a table's rows.

The condition is said to SQLite alone: the migrations say it to both databases, and a mention of PostgreSQL would load
2.5 MB of its dialect into gateways that never speak it.
"""

from sqlalchemy import Index, text


def partial_index(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    return Index(name, *columns, unique=unique, sqlite_where=text(where))
