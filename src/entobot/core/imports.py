"""Import a library without what it uses only where it happens to be installed."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast


@contextmanager
def without(*packages: str) -> Generator[None]:
    """Inside, these packages cannot be imported, as if they were not installed. Those already loaded stay.

    This holds for every thread of the process: only for packages that nobody else imports meanwhile.
    """
    modules = cast("dict[str, Any]", sys.modules)
    absent = [name for name in packages if name not in modules]
    modules.update(dict.fromkeys(absent))  # Python's own mark for a module that must not be looked for
    try:
        yield
    finally:
        for name in absent:
            del modules[name]
