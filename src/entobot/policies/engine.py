"""The port of what reads policies and answers questions by them."""

from collections.abc import Sequence
from typing import Protocol

from entobot.policies.model import Flaw, Policy, Question, Verdict


class Unreadable(Exception):  # noqa: N818  reads as what happened
    """A stored policy cannot be used; the text names it."""


class Compiled(Protocol):
    """A set of policies together with what is built in. Answers never raise."""

    @property
    def uses_time(self) -> bool:
        """Whether an answer may be another one in another minute."""
        ...

    def ask(self, question: Question) -> Verdict:
        """A `forbid` wins over every `permit`; what nothing permits is not allowed; what cannot be worked out neither.

        Where something of the question is unknown: allowed if a *written* policy might permit it.
        """
        ...


class Engine(Protocol):
    """Blocking, some milliseconds; any thread."""

    def flaws(self, text: str) -> list[Flaw]:
        """What is wrong with one policy's text; empty where it can be used."""
        ...

    def compile(self, policies: Sequence[Policy]) -> Compiled:
        """Raises Unreadable."""
        ...


class Shut:
    """Answers no to everything: what policies say cannot be known, so nothing is allowed."""

    uses_time = False

    def __init__(self, why: str) -> None:
        self.why = why

    def ask(self, question: Question) -> Verdict:
        del question
        return Verdict(is_allowed=False, failure=self.why)
