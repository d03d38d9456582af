"""P1 start to health, P2 idle memory, P11 install, P12 `--help`."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.rig import Figure, median, running_gateway
from tests.support.process import ROOT, GatewayProcess

ROUNDS = 5
SETTLE_S = 3.0


def start_to_health() -> Figure:
    value = start_to_health_s()
    return Figure("P1", "process start → /api/health 200", "≤ 1.0 s", f"{value:.2f} s", value <= 1.0)


def start_to_health_s() -> float:
    """A second start of a data folder: keys and database exist."""
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        gateway = GatewayProcess(Path(folder, "home"))
        gateway.start()
        gateway.stop()
        client = httpx.Client(verify=gateway.trust())
        for _ in range(ROUNDS):
            began = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", "entobot", "up"],
                env=gateway.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            while True:
                try:
                    if client.get(f"{gateway.origin}/api/health").is_success:
                        break
                except httpx.TransportError:
                    time.sleep(0.005)
            times.append(time.perf_counter() - began)
            process.terminate()
            process.wait()
        client.close()
    return median(times)


def idle_memory() -> list[Figure]:
    figures: list[Figure] = []
    cases = (
        ("echo agent", 80, {"ENTOBOT_AGENT__RUNNER": "echo"}),
        ("model library loaded", 130, {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "ENTOBOT_AGENT__MODEL": "none"}),
    )
    for name, limit, environment in cases:
        with running_gateway(**environment) as gateway:
            time.sleep(SETTLE_S)
            assert gateway.process is not None
            used = resident_mb(gateway.process.pid)
        figures.append(Figure("P2", f"idle memory, {name}", f"≤ {limit} MB", f"{used:.0f} MB", used <= limit))
    return figures


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise LookupError(pid)


def install() -> list[Figure]:
    """`pip install` of a built wheel without the agent extra into a fresh environment, nothing cached."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        return [Figure("P11", "install", "≤ 120 MB, ≤ 30 s", "not measured: uv is not installed", None)]
    with tempfile.TemporaryDirectory() as folder:
        run: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        build = [uv, "build", "--wheel", "--no-build-isolation", "--python", sys.executable, "-o", folder, str(ROOT)]
        subprocess.run(build, **run)
        wheel = next(Path(folder).glob("*.whl"))
        place = Path(folder, "env")
        subprocess.run([sys.executable, "-m", "venv", place], **run)
        before = folder_mb(place)
        began = time.perf_counter()
        environment = os.environ | {"PIP_NO_CACHE_DIR": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        subprocess.run([place / "bin" / "pip", "install", "--quiet", "--no-compile", wheel], env=environment, **run)
        took = time.perf_counter() - began
        size = folder_mb(place) - before
    return [
        Figure("P11", "installed size without the agent extra", "≤ 120 MB", f"{size:.0f} MB", size <= 120),
        Figure("P11", "pip install, empty cache", "≤ 30 s", f"{took:.1f} s", took <= 30),
    ]


def folder_mb(path: Path) -> float:
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_symlink()) / 1e6


def help_text() -> Figure:
    command = [sys.executable, "-m", "entobot", "--help"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    times: list[float] = []
    for _ in range(2 * ROUNDS):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        times.append(time.perf_counter() - began)
    value = median(times)
    return Figure("P12", "entobot --help", "≤ 200 ms", f"{value * 1000:.0f} ms", value <= 0.2)
