"""What a change would do, and how much of what is stored can be used: decided without touching anything."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from entobot.config import Settings
from entobot.core.errors import StartupRefused
from entobot.core.networks import Networks
from entobot.settings.editable import Applies
from entobot.settings.model import Difference, Plan, Wrong, check_value, explained, fields, refusal, tree_of
from entobot.settings.model_url import check_url
from entobot.sources import Layers
from entobot.web.origins import check_origin


@dataclass(frozen=True, slots=True)
class Asking:
    """From where somebody asks for a change. None: not over the network, or not from a page."""

    address: str | None = None
    origin: str | None = None


def usable(layers: Layers, stored: Mapping[str, Any]) -> tuple[Layers, dict[str, str]]:
    """`layers` with as much of `stored` as can be used, and why each of the rest cannot. Without it they are right."""
    refused: dict[str, str] = {}
    kept: dict[str, Any] = {}
    for key, value in stored.items():
        wrong = _wrong_by_itself(key, value)
        if wrong is None:
            kept[key] = value
        else:
            refused[key] = wrong
    while kept:
        tried = layers.with_stored(tree_of(kept))
        found = _wrong_together(tried, sorted(kept))
        if not found:
            return tried, refused
        hit = {one.key: one.message for one in found if one.key in kept} or dict.fromkeys(kept, found[0].message)
        refused |= hit
        kept = {key: value for key, value in kept.items() if key not in hit}
    return layers.with_stored({}), refused


def plan(
    layers: Layers,
    stored: Mapping[str, Any],
    changes: Mapping[str, Any],
    *,
    asking: Asking | None = None,
    by_route: Collection[str] = (),
) -> Plan:
    """What `changes` would make of `stored`; a value of None takes back what is stored.

    `layers` hold what of `stored` can be used. A value that holds already changes nothing, pinned or not, so that a
    whole form may be sent back. `by_route` are keys that the caller's route may change though the general one may not.
    `asking` None: nobody is kept from locking themselves out. Raises `invalid` with everything that is wrong.
    """
    before = layers.settings()
    wanted, wrong = dict(stored), list[Wrong]()
    for key, value in changes.items():
        at = fields().get(key)
        if value is None and key in stored:
            del wanted[key]
        elif at is None:
            wrong.append(Wrong(key[:100], "is not a known setting."))
        elif value is not None and (
            value != at.of(before) or isinstance(value, bool) != isinstance(at.of(before), bool)
        ):
            complaint = _not_here(layers, key, by_route) or _wrong_by_itself(key, value)
            if complaint is None:
                wanted[key] = value
            else:
                wrong.append(Wrong(key, complaint))
    if wrong:
        raise refusal(wrong)
    changed = sorted(key for key in {*wanted, *stored} if wanted.get(key) != stored.get(key))
    after, refused = usable(layers, wanted)
    wrong = [Wrong(key, refused[key]) for key in changed if key in refused and key in wanted]
    settings = after.settings()
    wrong = wrong or _locking_out(settings, changed, asking)
    if wrong:
        raise refusal(wrong)
    differences = tuple(_difference(key, before, settings) for key in changed)
    return Plan(after, settings, wanted, differences)


def _not_here(layers: Layers, key: str, by_route: Collection[str]) -> str | None:
    at = fields()[key]
    if at.rule is None:
        return "cannot be changed while the gateway runs: set it in entobot.toml or the environment, and restart."
    if at.rule.elsewhere and key not in by_route:
        return f"is changed by {at.rule.elsewhere}."
    pin = layers.pin(at.section, at.name)
    return None if pin is None else f"is set by {pin}, which wins. Change it there and restart."


def _wrong_by_itself(key: str, value: Any) -> str | None:
    at = fields().get(key)
    if at is None or at.rule is None:
        return "is not a setting that can be stored."
    try:
        check_value(at, value)
    except ValueError as error:
        return str(error)
    return None


def _wrong_together(layers: Layers, keys: list[str]) -> list[Wrong]:
    """Everything that keeps these settings from being used. Empty: the gateway starts with them."""
    try:
        settings = layers.settings()
    except ValidationError as error:
        return explained(error, keys)
    wrong: list[Wrong] = []
    try:
        for origin in settings.gateway.allowed_origins:
            check_origin(origin)
    except StartupRefused as refused:
        wrong.append(Wrong("gateway.allowed_origins", f"is not right: {refused}"))
    try:
        check_url(settings.agent.base_url)
    except ValueError as error:
        wrong.append(Wrong("agent.base_url", str(error)))
    return [one for one in wrong if one.key in keys]


def _locking_out(settings: Settings, changed: list[str], asking: Asking | None) -> list[Wrong]:
    """Changes that would shut out the very person who makes them."""
    if asking is None:
        return []
    wrong: list[Wrong] = []
    networks = Networks(settings.gateway.allowed_networks)
    if "gateway.allowed_networks" in changed and networks and asking.address and asking.address not in networks:
        text = f"leaves out {asking.address}, from where you ask: you would lock yourself out."
        wrong.append(Wrong("gateway.allowed_networks", f"{text} Add its network, or force it."))
    if "gateway.allowed_origins" in changed and asking.origin and asking.origin not in settings.gateway.allowed_origins:
        text = f"leaves out {asking.origin}, the page that asks: it would stop working at the next start."
        wrong.append(Wrong("gateway.allowed_origins", f"{text} Add it, or force it."))
    return wrong


def _difference(key: str, before: Settings, after: Settings) -> Difference:
    at = fields().get(key)
    if at is None or at.rule is None:  # stored by another version, and now taken back
        return Difference(key, None, None, Applies.NOW, is_told=False)
    return Difference(key, at.of(before), at.of(after), at.rule.applies, at.rule.is_told)
