"""`INSERT … ON CONFLICT`, the one construct that SQLAlchemy keeps in a dialect.

SQLite took over PostgreSQL's syntax, and SQLite's construct is rendered alike by both dialects. PostgreSQL's would do
as well, but brings 2.5 MB of a dialect that most gateways never speak.
"""

from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.dialects.sqlite.dml import OnConflictClause

__all__ = ["upsert"]

OnConflictClause.constraint_target = None  # pyright: ignore[reportAttributeAccessIssue]  PostgreSQL's compiler asks for it, and SQLite has no such thing
