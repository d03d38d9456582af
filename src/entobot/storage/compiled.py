"""Compile SQLAlchemy Core statements once, then bind parameters by position without SQLAlchemy on the hot path."""

from collections.abc import Sequence
from operator import itemgetter
from threading import Lock
from typing import Any, NamedTuple, cast

from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.sql import ClauseElement, Executable, visitors
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import BindParameter

from entobot.storage.database import Parameters

MAX_STATEMENTS = 1024


class _Compiled(NamedTuple):
    statement: Executable  # held so that its identity is not reused while the entry lives
    sql: str
    names: tuple[str, ...]
    constants: dict[str, Any]


class _Direct(NamedTuple):
    """A statement whose values are just what is given, under the names given last."""

    sql: str
    size: int
    pick: "itemgetter[Any]"


class StatementCache:
    """Renders statements for one thread of one dialect with positional parameters.

    Column types must need no conversion (integers, text, bytes): values go to the driver as they are.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._entries: dict[tuple[int, tuple[str, ...]], _Compiled] = {}
        self._direct: dict[int, _Direct] = {}

    def render(self, statement: Executable, parameters: Parameters | None) -> tuple[str, Sequence[Any]]:
        """SQL text and the values in its order. Raises KeyError for a missing value."""
        given = parameters or {}
        direct = self._direct.get(id(statement))
        if direct is not None and len(given) == direct.size:
            try:
                return direct.sql, direct.pick(given)
            except KeyError:  # as many, but others
                pass
        key = (id(statement), tuple(given))
        entry = self._entries.get(key)
        if entry is None:
            entry = self._compile(statement, list(given))
            if len(self._entries) >= MAX_STATEMENTS:
                forgotten = self._entries.pop(next(iter(self._entries)))
                self._direct.pop(id(forgotten.statement), None)
            self._entries[key] = entry
            if len(entry.names) > 1 and set(entry.names) == set(given):
                self._direct[id(statement)] = _Direct(entry.sql, len(given), itemgetter(*entry.names))
        constants = entry.constants
        return entry.sql, [given[name] if name in given else constants[name] for name in entry.names]

    def _compile(self, statement: Executable, names: list[str]) -> _Compiled:
        assert isinstance(statement, ClauseElement)
        with _compiling:
            found = [cast("BindParameter[Any]", e) for e in visitors.iterate(statement) if isinstance(e, BindParameter)]
            required = [parameter for parameter in found if parameter.required]
            # SQLAlchemy wants the values of required parameters when it writes out `IN` lists: `render` checks instead.
            _mark(required, is_required=False)
            try:
                compiled = statement.compile(
                    dialect=self._dialect, column_keys=names or None, compile_kwargs={"render_postcompile": True}
                )
            finally:
                _mark(required, is_required=True)
        assert isinstance(compiled, SQLCompiler)
        left_out = {parameter.key for parameter in required}
        constants = {name: value for name, value in compiled.params.items() if name not in left_out}
        return _Compiled(statement, str(compiled), tuple(compiled.positiontup or ()), constants)


_compiling = Lock()
"""Statements are shared by threads, and a mark is taken off while one compiles."""


def _mark(parameters: "list[BindParameter[Any]]", *, is_required: bool) -> None:
    for parameter in parameters:
        parameter.required = is_required
