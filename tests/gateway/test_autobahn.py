"""The Autobahn test suite (247 fast cases: framing, fragments, UTF-8, closing) against the product's own class."""

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from entobot.gateway import frames
from entobot.gateway.websocket import WebSockets
from entobot.gateway.websocket_link import MAX_MESSAGE_BYTES, WebSocketLink
from tests.support.listening import Recorder, Recorders, serving

PACKAGE = "autobahntestsuite==0.8.2"  # the newest release that imports; it is written for Python 2.7
RUN = "import site, sys; site.addsitedir(sys.argv.pop(1)); from autobahntestsuite import wstest; wstest.run()"
CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]
FAST_CASES = 247


def python27() -> Path | None:
    """The first Python 2.7 that runs (pyenv puts a `python2.7` on the path that only talks)."""
    found = [str(path) for path in sorted((Path.home() / ".pyenv" / "versions").glob("2.7*/bin/python2.7"))]
    for candidate in (*reversed(found), shutil.which("python2.7")):
        if candidate and subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
            return Path(candidate)
    return None


def installed_suite(python: Path) -> Path | None:
    """The folder that the suite is installed in; it is kept between runs. None when it cannot be installed."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "entobot-tests")
    folder = cache / "autobahn27"
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as work:
        command = [
            python,
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "--target",
            f"{work}/new",
            PACKAGE,
        ]
        done = subprocess.run(command, capture_output=True, timeout=300, check=False)
        if done.returncode:
            return None
        try:
            Path(work, "new").rename(folder)
        except OSError:
            return folder if folder.exists() else None  # another worker was faster
    return folder


@pytest.fixture(scope="module")
def suite() -> tuple[Path, Path]:
    python = python27()
    if python is None:
        pytest.skip("no Python 2.7 here: the Autobahn suite needs one (pyenv install 2.7.18)")
    folder = installed_suite(python)
    if folder is None:
        pytest.skip(f"{PACKAGE} cannot be installed here")
    return python, folder


class BinaryEchoLink(WebSocketLink):
    __slots__ = ()

    def receive_binary(self, payload: bytes) -> None:
        self.send_frame(frames.frame(frames.Opcode.BINARY, payload))


class EchoingWebSockets(WebSockets):
    link_class = BinaryEchoLink


class Echo(Recorder):
    def opened(self) -> None:
        self.link.set_max_message_bytes(MAX_MESSAGE_BYTES)

    def text(self, payload: bytes) -> None:
        self.link.send(payload)


async def test_no_case_of_the_autobahn_suite_fails(suite: tuple[Path, Path], tmp_path: Path) -> None:
    python, folder = suite
    async with serving(recorders=Recorders(Echo), websockets=EchoingWebSockets) as server:
        spec = {
            "outdir": str(tmp_path / "reports"),
            "servers": [{"agent": "entobot", "url": f"ws://127.0.0.1:{server.port}/ws"}],
            "cases": CASES,
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        (tmp_path / "spec.json").write_text(json.dumps(spec))
        arguments = ["-c", RUN, str(folder), "-m", "fuzzingclient", "-s", str(tmp_path / "spec.json")]
        process = await asyncio.create_subprocess_exec(
            python, *arguments, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        async with asyncio.timeout(180):
            assert await process.wait() == 0
    results = json.loads((tmp_path / "reports" / "index.json").read_text())["entobot"]
    good = {"OK", "NON-STRICT", "INFORMATIONAL"}
    failed = {
        case: (result["behavior"], result["behaviorClose"])
        for case, result in results.items()
        if not {result["behavior"], result["behaviorClose"]} <= good
    }
    assert len(results) == FAST_CASES
    assert failed == {}
