"""The documentation site, built once for all workers of a run: it takes as long as ten tests."""

import fcntl
from pathlib import Path

import pytest
from tools import site as site_tool


@pytest.fixture(scope="session")
def built_site(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Built as `make site` builds it, which stops at zensical's first complaint. Only looked at."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "documentation"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = folder / "said"
        if not said.exists():
            said.write_text(site_tool.build(folder / "site"))
    assert "No issues found" in said.read_text()
    return folder / "site"
