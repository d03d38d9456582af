"""Weak points that settings have by themselves, whatever runs: pure, but for a look at the modes of files."""

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from entobot.app.weak_points import Grade, Topic, WeakPoint
from entobot.config import Settings
from entobot.config_types import LOOPBACK
from entobot.core.rates import RATES

LOOSE_LIMITS = 20
_PUBLIC = ("ca_file", "certificate_file")
"""Files that may be read by all."""
HANDED_OVER = Path("/run/secrets")
"""Where container engines put secrets, for whoever runs in that container: readable by all, and meant so."""


def weak_settings(settings: Settings) -> Iterator[WeakPoint]:
    yield from _of_origins(settings)
    yield from _of_limits(settings)
    yield from _of_acme(settings)
    yield from _of_bridges(settings)
    for name, file in secret_files(settings):
        if is_open_to_others(file):
            what = f"Everybody on this machine can read {file}, the secret of {name}."
            yield WeakPoint(Topic.SECRETS, Grade.BAD, what, f"chmod o= {file}, and renew what is in it.")


def secret_files(section: BaseModel, name: str = "") -> Iterator[tuple[str, Path]]:
    """Every setting whose value is the path of a file with a secret in it, by its dotted name."""
    for field in type(section).model_fields:
        yield from _secret_files(getattr(section, field), f"{name}.{field}" if name else field)


def _secret_files(value: Any, name: str) -> Iterator[tuple[str, Path]]:
    if isinstance(value, BaseModel):
        yield from secret_files(value, name)
    elif isinstance(value, tuple):
        for place, one in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  of any field
            yield from _secret_files(one, f"{name}.{place}")
    elif isinstance(value, Path) and name.endswith(("_file", ".key")) and not name.endswith(_PUBLIC):
        yield name, value


def is_open_to_others(file: Path) -> bool:
    """A file that is not there, or that this process may not look at, is nobody's."""
    if HANDED_OVER in file.parents:
        return False
    try:
        return bool(file.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def _of_origins(settings: Settings) -> Iterator[WeakPoint]:
    for origin in settings.gateway.allowed_origins:
        if origin.startswith("http:"):
            what = f"Pages from {origin} may call this gateway, and anybody between can change them."
            yield WeakPoint(Topic.ORIGINS, Grade.BAD, what, "Serve it by https, or take it out of allowed_origins.")


def _of_limits(settings: Settings) -> Iterator[WeakPoint]:
    loose = sorted(
        rate
        for rate, allowance in settings.limits.allowances().items()
        if allowance.per_second > LOOSE_LIMITS * RATES[rate].default.per_second
    )
    if loose:
        what = f"These limits are more than {LOOSE_LIMITS} times as wide as usual: {', '.join(loose)}."
        yield WeakPoint(Topic.LIMITS, Grade.WARN, what, "Take them out of [limits] once the load test is over.")


def _of_acme(settings: Settings) -> Iterator[WeakPoint]:
    """The authority asks whichever node the name leads to, and only the one that ordered can answer."""
    is_shared = bool(settings.storage.url.get_secret_value())
    if settings.tls.mode == "acme" and settings.acme.challenge != "dns-01" and is_shared:
        what = f"Where several nodes share one name, a certificate by {settings.acme.challenge} may not be had."
        fix = "With more than one node use dns-01, or let the balancer end TLS: docs/how-to/public-certificate.md."
        yield WeakPoint(Topic.CERTIFICATE, Grade.NOTE, what, fix)


def _of_bridges(settings: Settings) -> Iterator[WeakPoint]:
    for bridge in settings.mqtt.bridges:
        if bridge.has_tls or bridge.place[0] in LOOPBACK:
            continue
        fix = f"Give it mqtts:// in mqtt.bridges, {bridge.name}: docs/how-to/bridge-a-broker.md."
        if bridge.password_file is not None:
            what = f"The bridge {bridge.name} sends its password in clear, and anybody between can use it."
            yield WeakPoint(Topic.SECRETS, Grade.BAD, what, fix)
        else:
            what = f"The bridge {bridge.name} has no TLS: anybody between can read and change what it carries."
            yield WeakPoint(Topic.NETWORKS, Grade.WARN, what, fix)
