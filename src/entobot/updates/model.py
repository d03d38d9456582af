"""Roll-outs: which device comes when, what is made of what it says, when a stage is over. Pure; time comes in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from entobot.core.secrets import sha256

MAX_STAGES = 8
MAX_NAMED = 200
"""Devices or tags of one stage."""
MAX_REASON_CHARACTERS = 200


class State(StrEnum):
    """Of a roll-out."""

    ABORTED = "aborted"
    DONE = "done"
    PAUSED = "paused"
    RUNNING = "running"


class DeviceState(StrEnum):
    DOWNLOADING = "downloading"
    FAILED = "failed"
    """It said so, or was not heard of in time."""
    HEALTHY = "healthy"
    INSTALLED = "installed"
    """It runs the version, and has not yet for long enough."""
    OFFERED = "offered"
    """It was told, and has not begun."""
    ROLLED_BACK = "rolled_back"
    """It ran the version, and went back."""
    WAITING = "waiting"


BAD = frozenset({DeviceState.FAILED, DeviceState.ROLLED_BACK})
ENDED = BAD | {DeviceState.HEALTHY}


@dataclass(frozen=True, slots=True)
class Stage:
    """Which devices come next, one of three: up to a share of all (`percent`), those that have a tag, or these."""

    percent: int | None = None
    tags: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Terms:
    """When a device counts as healthy, and how many may not become so."""

    health_ms: int = 300_000
    """It stays online for so long after it first reported the version."""
    reading: str = ""
    """And this reading came since; empty: none is asked for."""
    timeout_ms: int = 3600_000
    """So long it may take for a step once it began, while it is there."""
    max_failed_percent: int = 10
    """Of the devices of the stages so far. More than that pauses the roll-out."""


@dataclass(frozen=True, slots=True)
class Rollout:
    rollout_id: str
    release_id: str
    type: str
    version: str
    state: State
    stage: int
    stages: tuple[Stage, ...]
    terms: Terms
    forgiven: int
    """Failures that do not count any more: somebody saw them and went on."""
    why: str
    made_by: str
    created_at_ms: int
    stage_at_ms: int
    ended_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class OnDevice:
    """How far a device is. `stage` is the one with which it comes."""

    rollout_id: str
    device_id: str
    stage: int
    state: DeviceState
    since_ms: int
    reason: str = ""
    from_version: str = ""
    installed_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Pulse:
    """What is known of a thing. `online_since_ms` is None while it is not online."""

    version: str
    online_since_ms: int | None
    reading_at_ms: int | None = None


# -- who comes when


def plan(stages: Sequence[Stage], devices: Mapping[str, Sequence[str]], seed: str) -> dict[str, int]:
    """The stage of each device, of those (with their tags) that come at all. Shares are drawn by lot, by `seed`."""
    lots = sorted(devices, key=lambda device_id: sha256(f"{seed}/{device_id}".encode()))
    placed: dict[str, int] = {}
    for number, stage in enumerate(stages):
        if stage.percent is not None:
            wanted = -(-stage.percent * len(lots) // 100) - len(placed)
            chosen = [one for one in lots if one not in placed][: max(0, wanted)]
        else:
            chosen = [one for one in lots if one in stage.devices or set(stage.tags) & set(devices[one])]
        for device_id in chosen:
            placed.setdefault(device_id, number)
    return placed


# -- what a device says


class Said(StrEnum):
    """What a board says of an update, in the event `update`."""

    DOWNLOADING = "downloading"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


_AFTER: dict[Said, tuple[frozenset[DeviceState], DeviceState]] = {
    Said.DOWNLOADING: (frozenset({DeviceState.OFFERED}), DeviceState.DOWNLOADING),
    Said.FAILED: (frozenset({DeviceState.OFFERED, DeviceState.DOWNLOADING}), DeviceState.FAILED),
    Said.ROLLED_BACK: (
        frozenset(DeviceState) - {DeviceState.WAITING, DeviceState.ROLLED_BACK},
        DeviceState.ROLLED_BACK,
    ),
}


def after_said(state: DeviceState, said: Said) -> DeviceState:
    """The same, where it cannot be said in this state."""
    before, after = _AFTER[said]
    return after if state in before else state


def after_version(state: DeviceState, *, is_new: bool) -> DeviceState:
    """It came and told which version it runs: the new one, or another."""
    if state is DeviceState.ROLLED_BACK:
        return state  # it tried; whatever it says now is of somebody's hand
    if is_new:
        return state if state in (DeviceState.INSTALLED, DeviceState.HEALTHY) else DeviceState.INSTALLED
    return DeviceState.ROLLED_BACK if state in (DeviceState.INSTALLED, DeviceState.HEALTHY) else state


# -- what time makes of it


def judge(one: OnDevice, pulse: Pulse, terms: Terms, now_ms: int) -> tuple[DeviceState, str]:
    """The state that a device has come to, and why where it failed."""
    since_ms = one.since_ms if pulse.online_since_ms is None else max(one.since_ms, pulse.online_since_ms)
    is_late = now_ms - one.since_ms >= terms.timeout_ms
    match one.state:
        case DeviceState.INSTALLED:
            installed_ms = one.since_ms if one.installed_at_ms is None else one.installed_at_ms
            has_read = not terms.reading or (pulse.reading_at_ms or 0) > installed_ms
            is_steady = pulse.online_since_ms is not None and now_ms - since_ms >= terms.health_ms
            if is_steady and has_read:
                return DeviceState.HEALTHY, ""
            if is_late and now_ms - one.since_ms >= terms.health_ms:
                why = f"the reading {terms.reading} did not come" if is_steady else "it did not stay online"
                return DeviceState.FAILED, why
        case DeviceState.DOWNLOADING if is_late:
            return DeviceState.FAILED, "it began, and was not heard of in time"
        case DeviceState.OFFERED if pulse.online_since_ms is not None and now_ms - since_ms >= terms.timeout_ms:
            return DeviceState.FAILED, "it is online and does not begin: is its client set up for updates?"
        case _:
            pass
    return one.state, ""


@dataclass(frozen=True, slots=True)
class Tally:
    """Of the devices of the stages so far: how many are in each state. `fresh` of the offered may still begin."""

    states: Mapping[DeviceState, int] = field(default_factory=dict[DeviceState, int])
    fresh: int = 0

    def of(self, *states: DeviceState) -> int:
        return sum(self.states.get(state, 0) for state in states)

    @property
    def total(self) -> int:
        return sum(self.states.values())

    @property
    def failed(self) -> int:
        return self.of(*BAD)


class Step(StrEnum):
    """What a roll-out does next."""

    ADVANCE = "advance"
    FINISH = "finish"
    PAUSE = "pause"
    STAY = "stay"


def decide(rollout: Rollout, tally: Tally) -> Step:
    """A running roll-out pauses where too many failed. Its last stage is over when every device has come to an end, an
    earlier one also while some are away, as soon as half of the devices are healthy.
    """
    if rollout.state is not State.RUNNING:
        return Step.STAY
    if is_too_bad(tally, rollout):
        return Step.PAUSE
    if rollout.stage >= len(rollout.stages) - 1:
        return Step.FINISH if tally.of(*ENDED) == tally.total else Step.STAY
    under_way = tally.of(DeviceState.WAITING, DeviceState.DOWNLOADING, DeviceState.INSTALLED) + tally.fresh
    is_good = tally.of(DeviceState.HEALTHY) * 2 >= tally.total or not tally.total
    return Step.ADVANCE if not under_way and is_good else Step.STAY


def is_too_bad(tally: Tally, rollout: Rollout) -> bool:
    failed = max(0, tally.failed - rollout.forgiven)
    return failed * 100 > rollout.terms.max_failed_percent * tally.total
