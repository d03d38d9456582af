"""Build the documentation site: `python tools/site.py [FOLDER]`, or `make site`. Default: reports/site.

zensical builds docs/ by mkdocs.yml and stops at a link to a page or heading that is not there. Files outside of docs/
that a page links to (deploy/, a plot of benchmarks/) are taken along under files/, so that the site is whole by itself.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
CONFIGURATION = "mkdocs.yml"
OUTPUT = Path("reports/site")
"""`site_dir` of the configuration."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LINK = re.compile(r'(?P<name>href|src)="(?P<path>\.\./[^"#?]*)')


def build(site: Path) -> str:
    """Replace `site` by what docs/ is now. Returns what zensical said; ends the program with it at its first complaint."""
    with tempfile.TemporaryDirectory() as name:
        workplace = Path(name)
        shutil.copytree(ROOT / "docs", workplace / "docs")
        shutil.copy(ROOT / CONFIGURATION, workplace)
        command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
        done = subprocess.run(  # noqa: S603  fixed arguments
            command,
            cwd=workplace,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        said = _COLOUR.sub("", done.stdout)
        if done.returncode != 0:
            raise SystemExit(said)
        built = workplace / OUTPUT
        for page in built.rglob("*.html"):
            _take_along(page, built)
        shutil.rmtree(site, ignore_errors=True)
        shutil.copytree(built, site)
        return said


def _take_along(page: Path, site: Path) -> None:
    """Copy what the page links to outside of the site, and let its links lead to the copies."""
    folder = PurePosixPath(page.parent.relative_to(site).as_posix())

    def here(found: re.Match[str]) -> str:
        outside = _outside(folder, found["path"])
        if outside is None:
            return found[0]
        if not (ROOT / outside).is_file():
            raise SystemExit(f"{page.relative_to(site)} links to {outside}, which is no file of the repository.")
        copy = site / "files" / outside
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / outside, copy)
        return f'{found["name"]}="{"../" * len(folder.parts)}files/{outside}'

    text = page.read_text("utf-8")
    page.write_text(_LINK.sub(here, text), "utf-8")


def _outside(folder: PurePosixPath, path: str) -> str | None:
    """The repository's path of a link that leaves the site, which lies in it as docs/ does."""
    place = list(folder.parts)
    for part in path.split("/"):
        if part != "..":
            place.append(part)
        elif place:
            place.pop()
        else:
            return path.rpartition("../")[2]
    return None


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / OUTPUT
    sys.stdout.write(build(target) + f"{target}\n")
