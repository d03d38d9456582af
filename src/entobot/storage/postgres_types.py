"""Text on PostgreSQL, imported where tables are made there.

Compared byte by byte, as SQLite does: ids sort by time, pages continue where they ended, and no index depends on a
version of the server's language rules.
"""

from typing import Any

from sqlalchemy import Text
from sqlalchemy.ext.compiler import compiles


@compiles(Text, "postgresql")
def _text(_element: Text, _compiler: object, **context: Any) -> str:
    return 'TEXT COLLATE "C"' if context.get("type_expression") is not None else "TEXT"
