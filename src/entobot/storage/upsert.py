"""`INSERT … ON CONFLICT`, the one construct that SQLAlchemy keeps in a dialect.

SQLite took over PostgreSQL's syntax, and the PostgreSQL construct is rendered alike by both dialects.
"""

from sqlalchemy.dialects.postgresql import insert as upsert

__all__ = ["upsert"]
