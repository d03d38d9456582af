"""What `entobot up` loads before it runs, in a process of its own: modules once loaded stay."""

import json
import subprocess
import sys

import pytest

LOOK = """
import dataclasses, gc, json, sys
from entobot.app.lean import load_run
load_run()
from pydantic import BaseModel
import warnings
from pydantic.warnings import UnsupportedFieldAttributeWarning
warnings.warn("shown to whoever starts it", UnsupportedFieldAttributeWarning)
def is_late(cls):
    return cls.__init__.__code__.co_filename.endswith("late_dataclasses.py")
classes = {
    thing for name, module in list(sys.modules.items()) if name.startswith("entobot.") and module is not None
    for thing in vars(module).values() if isinstance(thing, type) and thing.__module__.startswith("entobot.")
    and dataclasses.is_dataclass(thing) and thing.__dataclass_params__.frozen
}
late = sum(map(is_late, classes))
seen = {"late": late, "written": len(classes) - late, "modules": list(sys.modules), "defers": "defer_build" in BaseModel.model_config, "frozen": gc.get_freeze_count()}
import greenlet, rich.console
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def seen() -> dict[str, object]:
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True, timeout=60)
    found: dict[str, object] = json.loads(done.stdout)
    return found | {"told": done.stderr}


@pytest.mark.parametrize(
    "unused",
    [
        "acme",
        "asyncpg",
        "entobot.app.acme",
        "greenlet",
        "httpx",
        "mcp",
        "pydantic_ai",
        "requests",
        "rich",
        "segno",
        "sqlalchemy.dialects.postgresql",
        "webauthn",
    ],
)
def test_the_gateway_does_not_load_what_it_may_never_use(seen: dict[str, object], unused: str) -> None:
    modules = seen["modules"]
    assert isinstance(modules, list)
    assert "entobot.app.gateway" in modules
    assert unused not in modules


def test_methods_of_most_dataclasses_are_not_written_yet(seen: dict[str, object]) -> None:
    assert isinstance(seen["late"], int)
    assert isinstance(seen["written"], int)
    assert seen["late"] > 300
    assert seen["written"] < 40


def test_what_was_put_off_for_loading_is_as_before_afterwards(seen: dict[str, object]) -> None:
    assert seen["defers"] is False
    assert isinstance(seen["frozen"], int)
    assert seen["frozen"] > 50_000


def test_a_warning_that_fastapi_hides_only_from_its_own_thread_is_not_shown(seen: dict[str, object]) -> None:
    assert seen["told"] == ""
