"""Topics that a credential is limited to: how they are written, and whether a topic lies within. Pure.

A filter is that of a topic below `devices/`. `{device_id}` in it is the device that shows the credential: an enrolment
key limits devices that there are not yet.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from entobot.core.errors import Code, Problem

MAX_FILTERS = 16
"""Of one kind. Each message is compared with all of them."""
MAX_FILTER_CHARACTERS = 256
OWN = "{device_id}"
_ROOT = "devices"
_KINDS = ("publish", "subscribe")


@dataclass(frozen=True, slots=True)
class TopicLimits:
    """What a credential may publish and subscribe to at most, of what its device may. None: whatever that is; an empty
    tuple: nothing.
    """

    publish: tuple[str, ...] | None = None
    subscribe: tuple[str, ...] | None = None

    @property
    def is_limited(self) -> bool:
        return self.publish is not None or self.subscribe is not None

    @property
    def text(self) -> str:
        """As it is stored and audited; empty where nothing is limited."""
        said = {"publish": self.publish, "subscribe": self.subscribe}
        return json.dumps({kind: kept for kind, kept in said.items() if kept is not None}) if self.is_limited else ""


NO_LIMITS = TopicLimits()
NOTHING = TopicLimits((), ())


def parse_limits(text: str) -> TopicLimits:
    """Inverse of `TopicLimits.text`."""
    found: dict[str, list[str]] = json.loads(text) if text else {}
    return TopicLimits(*(tuple(found[kind]) if kind in found else None for kind in _KINDS))


def clean_limits(publish: Iterable[str] | None, subscribe: Iterable[str] | None) -> TopicLimits:
    """As somebody asks for it. Without `devices/` in front a filter is one below the device's own tree. Raises `invalid`."""
    return TopicLimits(*(None if one is None else _cleaned(one) for one in (publish, subscribe)))


def limits_of_words(text: str) -> dict[str, list[str]]:
    """`publish=telemetry/#,status subscribe=command`, for a request. A kind that is not named is not limited.

    Raises `invalid`.
    """
    found: dict[str, list[str]] = {}
    for word in text.split():
        kind, equals, filters = word.partition("=")
        if kind not in _KINDS or not equals or kind in found:
            raise Problem(
                Code.INVALID,
                "Write --topics as 'publish=telemetry/#,status subscribe=command'; either may be left out, and "
                "'publish=' permits nothing.",
            )
        found[kind] = [one for one in filters.split(",") if one]
    return found


def words_of_limits(said: Mapping[str, Iterable[str] | None]) -> str:
    """The same words, of what an answer says; empty where nothing is limited."""
    return " ".join(f"{kind}={','.join(kept)}" for kind in _KINDS if (kept := said[kind]) is not None)


def _cleaned(filters: Iterable[str]) -> tuple[str, ...]:
    found = tuple(sorted({_clean_filter(one) for one in filters}))
    if len(found) > MAX_FILTERS:
        raise Problem(Code.INVALID, f"A credential has at most {MAX_FILTERS} topic filters of a kind.")
    return found


def _clean_filter(text: str) -> str:
    whole = text if text.split("/", maxsplit=1)[0] == _ROOT else f"{_ROOT}/{OWN}/{text}"
    levels = whole.split("/")
    is_sound = (
        text
        and len(whole) <= MAX_FILTER_CHARACTERS
        and whole.isprintable()
        and not any(one.isspace() or one == "," for one in whole)
        and not any(("#" in level or "+" in level) and len(level) > 1 for level in levels)
        and "#" not in levels[:-1]
    )
    if not is_sound:
        raise Problem(
            Code.INVALID,
            f"'{text[:64]}' is no topic filter for a credential: write what follows devices/ID/, as in 'telemetry/#', "
            f"or begin with devices/, at most {MAX_FILTER_CHARACTERS} characters without spaces and commas.",
        )
    return whole


def is_within(filters: Sequence[str], device_id: str, text: str) -> bool:
    """Whether a topic lies within one of the filters; of a filter, whether any of its topics might."""
    return any(overlap(_of_device(one, device_id), text) for one in filters)


def _of_device(text: str, device_id: str) -> str:
    levels = text.split("/")
    return "/".join((levels[0], device_id, *levels[2:])) if levels[1:2] == [OWN] else text


def overlap(one: str, other: str) -> bool:
    """Whether some topic falls under both filters; a topic name is a filter of itself."""
    left, right = one.split("/"), other.split("/")
    for at in range(max(len(left), len(right)) + 1):
        mine, theirs = left[at : at + 1], right[at : at + 1]
        if mine == ["#"] or theirs == ["#"]:
            return True
        if not mine or not theirs:
            return mine == theirs
        if mine != theirs and "+" not in (mine[0], theirs[0]):
            return False
    return True
