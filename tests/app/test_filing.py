"""A disk that is full takes no files, and says so."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from entobot.app import filing
from entobot.app.filing import Filing
from entobot.config_files import FileSettings
from entobot.core.errors import Code, Problem


async def test_what_would_leave_too_little_on_the_disk_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filing.shutil, "disk_usage", lambda _path: SimpleNamespace(free=1000))
    disk = cast("Any", Filing.__new__(Filing))
    kept = FileSettings(keep_free_bytes=900)
    settings, home = SimpleNamespace(files=kept), SimpleNamespace(path=Path("/"))
    disk._ground = SimpleNamespace(is_shared=False, settings=settings, home=home)
    await disk._check_disk(100)
    with pytest.raises(Problem) as caught:
        await disk._check_disk(101)
    assert caught.value.code is Code.STORAGE_FULL
    disk._ground.is_shared = True
    await disk._check_disk(101)
