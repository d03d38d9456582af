"""The Autobahn test suite against the product's own class: 247 fast cases, and in the long form all 517, also over TLS."""

import asyncio
import json
import os
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from entobot.gateway import frames
from entobot.gateway.websocket import WebSockets
from entobot.gateway.websocket_link import MAX_MESSAGE_BYTES, WebSocketLink
from entobot.web.endpoints import TcpEndpoint
from tests.support.listening import Recorder, Recorders, serving
from tests.support.served import Served
from tests.web.test_listener import local_tls, trusting

PACKAGE = "autobahntestsuite==0.8.2"  # the newest release that imports; it is written for Python 2.7
RUN = "import site, sys; site.addsitedir(sys.argv.pop(1)); from autobahntestsuite import wstest; wstest.run()"
FAST = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]
FAST_CASES = 247
WITHIN_THE_CAP = ["9.1.1", "9.1.2", "9.2.1", "9.2.2", "9.7.*", "9.8.*"]
"""Messages of 64 and 256 KiB, and a thousand of up to 16 KiB. The other 38 cases of 9.* send 1 MiB and more: they are
not applicable, since a message has at most 256 KiB here."""
WITHIN_THE_CAP_CASES = 16
COMPRESSED = ["12.*", "13.*"]
"""permessage-deflate, which is off: each must be reported as not implemented."""
COMPRESSED_CASES = 216


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


@asynccontextmanager
async def unsecured(port: int, trust: ssl.SSLContext) -> AsyncGenerator[int]:
    """A plain port in front of a TLS one: the suite's Python has no TLS that the gateway would speak."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ssl.SSLError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def bridge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trust, server_hostname="localhost"
        )
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    async with Served(bridge) as server:
        yield server.port


Results = dict[str, dict[str, str]]


async def run_suite(suite: tuple[Path, Path], folder: Path, port: int, cases: list[str], within_s: float) -> Results:
    python, package = suite
    spec = {
        "outdir": str(folder / "reports"),
        "servers": [{"agent": "entobot", "url": f"ws://127.0.0.1:{port}/ws"}],
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    arguments = ["-c", RUN, str(package), "-m", "fuzzingclient", "-s", str(folder / "spec.json")]
    process = await asyncio.create_subprocess_exec(
        python, *arguments, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(within_s):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return json.loads((folder / "reports" / "index.json").read_text())["entobot"]


def failed(results: Results, *, good: set[str]) -> dict[str, tuple[str, str]]:
    return {
        case: (result["behavior"], result["behaviorClose"])
        for case, result in results.items()
        if not {result["behavior"], result["behaviorClose"]} <= good
    }


GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}


async def test_no_case_of_the_autobahn_suite_fails(suite: tuple[Path, Path], tmp_path: Path) -> None:
    async with serving(recorders=Recorders(Echo), websockets=EchoingWebSockets) as server:
        results = await run_suite(suite, tmp_path, server.port, FAST, 180)
    assert len(results) == FAST_CASES
    assert failed(results, good=GOOD) == {}


@pytest.mark.chaos
@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
async def test_no_applicable_case_of_all_517_fails(suite: tuple[Path, Path], tmp_path: Path, secured: bool) -> None:
    tls = local_tls(tmp_path / "tls") if secured else None
    endpoint = TcpEndpoint("127.0.0.1", 0, tls.files if tls else None)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            serving(recorders=Recorders(Echo), websockets=EchoingWebSockets, endpoints=[endpoint])
        )
        port = server.port
        if tls is not None:
            port = await stack.enter_async_context(unsecured(port, trusting(tls.authority)))
        results = await run_suite(suite, tmp_path, port, FAST + WITHIN_THE_CAP + COMPRESSED, 1800)
    compressed = {case: results.pop(case) for case in list(results) if case.startswith(("12.", "13."))}
    assert (len(results), len(compressed)) == (FAST_CASES + WITHIN_THE_CAP_CASES, COMPRESSED_CASES)
    assert {result["behavior"] for result in compressed.values()} == {"UNIMPLEMENTED"}
    assert failed(results, good=GOOD) == {}
