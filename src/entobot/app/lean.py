"""Load the gateway without what its libraries prepare and it never uses: a third of its start, a tenth of its memory."""

import gc
import warnings
from collections.abc import Mapping
from typing import Protocol

from pydantic import BaseModel
from pydantic.warnings import UnsupportedFieldAttributeWarning

from entobot.client.console import Place
from entobot.core.imports import without
from entobot.core.late_dataclasses import late_dataclasses


class Run(Protocol):
    """See `app.up.run`."""

    def __call__(self, place: Place, overrides: Mapping[str, Mapping[str, object]], *, pair: bool) -> int: ...


def load_run() -> Run:
    """`app.up.run`, with everything that it imports. Garbage collection is off until `Gateway.start`."""
    # FastAPI hides this one itself, where no other thread sets filters; the model library is loaded in one.
    warnings.simplefilter("ignore", UnsupportedFieldAttributeWarning)
    gc.disable()  # a thousand modules make no garbage to look for
    # FastAPI's models of an OpenAPI document take 50 ms and 4 MB to build; most gateways are never asked for one.
    BaseModel.model_config["defer_build"] = True
    try:
        # Our own frozen classes are many, and their methods are source code that is compiled: see docs/adr/0059.
        # structlog draws tracebacks with rich where there is one; ours are plain text. Greenlets are PostgreSQL's.
        with without("rich", "greenlet"), late_dataclasses():
            from entobot.app.up import run
    finally:
        del BaseModel.model_config["defer_build"]
    gc.freeze()  # 140,000 objects that stay: the collection after the start need not look at them
    return run
