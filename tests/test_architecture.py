"""House rules that a machine can hold: sizes, documented packages, tables and migrations, the access table."""

import ast
import re
import subprocess
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from entobot.core.access import COMMANDS, ROUTES
from entobot.core.errors import STATUS, Code
from entobot.storage.database import metadata
from entobot.storage.migrations import HEAD, upgrade_sqlite
from tests.support.stores import load_tables

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PAGES = sorted(path for kind in ("ts", "svelte", "css") for path in (ROOT / "web" / "src").rglob(f"*.{kind}"))
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
GENERATED = {"src/entobot/storage/migrations/versions", "web/src/shared/openapi.d.ts"}
REGISTRY_HOSTS = re.compile(r"(pypi\.org|pythonhosted|npmjs\.(org|com)|deb\.debian\.org|registry\.)", re.IGNORECASE)


def is_generated(path: Path) -> bool:
    return any(path.is_relative_to(ROOT / folder) for folder in GENERATED)


def test_no_file_is_longer_than_the_budget() -> None:
    long = {
        str(p.relative_to(ROOT)): n for p in SOURCES + PAGES if (n := len(p.read_text().splitlines())) > MAX_FILE_LINES
    }
    assert {path: n for path, n in long.items() if not is_generated(ROOT / path)} == {}


def test_no_function_is_longer_than_the_budget() -> None:
    long: list[str] = []
    for path in SOURCES:
        if is_generated(path):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} {lines}")
    assert long == []


def test_every_package_says_what_it_is_for() -> None:
    silent = [p for p in SOURCES if p.name == "__init__.py" and not ast.get_docstring(ast.parse(p.read_text()))]
    assert silent == []


@pytest.mark.parametrize("name", ["utils", "helpers", "manager", "common", "base", "misc"])
def test_nothing_has_a_name_that_says_nothing(name: str) -> None:
    assert [p for p in SOURCES if name in p.stem.split("_")] == []


def test_the_migrations_make_the_tables_that_the_stores_declare(tmp_path: Path) -> None:
    load_tables()
    path = tmp_path / "entobot.db"
    upgrade_sqlite(path)
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == HEAD
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_every_code_has_a_status() -> None:
    assert set(STATUS) == set(Code)


def test_vocabularies_are_sorted() -> None:
    assert [code.name for code in Code] == sorted(code.name for code in Code)
    assert list(COMMANDS) == sorted(COMMANDS)


def test_the_access_table_names_methods_and_absolute_paths() -> None:
    assert all(re.fullmatch(r"(GET|POST|PUT|PATCH|DELETE) /\S*", route) for route in ROUTES)


def tracked_files() -> list[Path]:
    found = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in found.stdout.split("\0") if name]


def test_no_file_names_a_package_registry() -> None:
    naming: list[str] = []
    for path in tracked_files():
        if path == Path(__file__) or not path.is_file() or path.suffix in {".png", ".ico"}:
            continue
        if REGISTRY_HOSTS.search(path.read_text("utf-8", "replace")):
            naming.append(str(path.relative_to(ROOT)))
    assert naming == []
