"""Policies, the questions that they answer, and their schema. Pure."""

import re
from dataclasses import dataclass
from enum import StrEnum

from entobot.core.errors import Code, Problem

MAX_POLICIES = 100
MAX_TEXT_CHARACTERS = 16_384
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

SCHEMA = """\
entity User { role: String, manages_devices: Bool };
entity Agent { user: User };
entity Device { owner: User, type: String, tags: Set<String> };
action publish, subscribe appliesTo {
  principal: [Device],
  resource: [Device],
  context: { topic: String, hour: Long, minute: Long, weekday: String, now: datetime }
};
action command appliesTo {
  principal: [User, Agent, Device],
  resource: [Device],
  context: { command: String, hour: Long, minute: Long, weekday: String, now: datetime }
};
"""
"""What policies may say, in Cedar's own words. `topic` is what follows `devices/ID/` of the resource."""


@dataclass(frozen=True, slots=True)
class Policy:
    """`number` counts all changes of all policies; `name` is a word."""

    name: str
    text: str
    number: int = 0
    changed_by: str = ""
    changed_at_ms: int = 0


BUILT_IN = (
    Policy(
        "own-subtree",
        "// A device reaches what is below devices/ID/ of its own.\n"
        'permit (principal is Device, action in [Action::"publish", Action::"subscribe"], resource is Device)\n'
        "when { principal == resource };\n",
    ),
    Policy(
        "own-things",
        "// People command their own things, and all of them where they manage devices.\n"
        'permit (principal is User, action == Action::"command", resource is Device)\n'
        "when { resource.owner == principal || principal.manages_devices };\n",
    ),
    Policy(
        "for-people",
        "// Agents and devices act for a person: what that person may not, they may not either.\n"
        'permit (principal is Agent, action == Action::"command", resource is Device);\n'
        'permit (principal is Device, action == Action::"command", resource is Device);\n',
    ),
)
"""Always there. Written policies may permit more, and forbid any of it."""


class Asked(StrEnum):
    COMMAND = "command"
    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"


@dataclass(frozen=True, slots=True)
class Person:
    user_id: str
    role: str
    manages_devices: bool


@dataclass(frozen=True, slots=True)
class Agent:
    """`name` is how the command came: `agent`, `automation`."""

    name: str
    person: Person


@dataclass(frozen=True, slots=True)
class Facts:
    """Of a device, what policies may name. `type` is its thing's, else what it was enrolled as; it may be empty."""

    device_id: str
    owner: Person
    type: str
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """`resource` and `what` may be unknown (None): then the answer is whether it can be permitted at all.

    `what` is a topic below the resource, or a command's name; `minute` counts from the epoch.
    """

    principal: Person | Agent | Facts
    action: Asked
    resource: Facts | None
    what: str | None
    minute: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """`rules` are the names of those that decided: what permits it, or what forbids it; none where nothing permits it.

    `failure` says why a policy could not be asked: then it is not allowed.
    """

    is_allowed: bool
    rules: tuple[str, ...] = ()
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with a text, and where: both count from 1."""

    line: int
    column: int
    text: str


def check_name(name: str) -> str:
    """Raises `invalid`."""
    if _NAME.fullmatch(name) is None:
        raise Problem(
            Code.INVALID,
            "A policy's name has 1 to 64 of a-z, 0-9 and . _ - and begins with a letter or a digit.",
        )
    if any(name == one.name for one in BUILT_IN):
        raise Problem(Code.INVALID, f"'{name}' is built in. Forbid what it permits in a policy of another name.")
    return name
