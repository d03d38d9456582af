import importlib
import sys
from pathlib import Path

import pytest

from entobot.core.imports import without


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "only_of_this_test.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    return "only_of_this_test"


def test_a_package_that_is_left_out_cannot_be_imported_until_later(package: str) -> None:
    with without(package, "a_package_that_nobody_has"), pytest.raises(ModuleNotFoundError):
        importlib.import_module(package)
    assert importlib.import_module(package) is sys.modules.pop(package)


def test_a_package_that_is_loaded_stays(package: str) -> None:
    loaded = importlib.import_module(package)
    with without(package):
        assert importlib.import_module(package) is loaded
    assert sys.modules.pop(package) is loaded
