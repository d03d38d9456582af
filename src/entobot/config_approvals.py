"""The settings of approvals: what is at stake, who decides, and how long is waited."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from entobot.config_types import Duration, Section, Words
from entobot.core.permissions import Role

MAX_POLICIES = 200
MAX_LONGEST_CHARACTERS = 64 * 1024
ROLE = "role:"
REQUESTER = "requester"


def _tables(value: object) -> object:
    """Variables are text: a list of tables is written as JSON there."""
    try:
        return json.loads(value or "[]") if isinstance(value, str) else value
    except ValueError:
        raise ValueError("is a list of tables, in a variable as JSON.") from None


def is_condition(condition: Mapping[str, object]) -> bool:
    """Whether it is one of `is`, `begins`, `longest`, or `from` and `to`."""
    match condition:
        case {"is": _, **rest}:
            return not rest
        case {"begins": str(text), **rest}:
            return text != "" and not rest
        case {"longest": bool()}:
            return False
        case {"longest": int(most), **rest}:
            return 0 < most <= MAX_LONGEST_CHARACTERS and not rest
        case {"from": int() | float() as low, "to": int() | float() as high, **rest}:
            return not isinstance(low, bool) and not isinstance(high, bool) and low <= high and not rest
        case _:
            return False


class ApprovalPolicy(Section):
    """For the calls that it fits, the first one decides who is asked; `risk` of every one that fits counts."""

    tool: str = Field(default="*", max_length=128, description="A tool's name, or a beginning that ends in `*`.")
    args: dict[str, dict[str, Any]] = Field(
        default_factory=dict[str, dict[str, Any]],
        description="Conditions on some arguments: `is`, `begins`, `longest`, or `from` and `to`.",
    )
    for_risk: tuple[Literal["low", "medium", "high"], ...] = Field(
        default=(), description="Only calls of these risks. Empty: all."
    )
    risk: Literal["", "low", "medium", "high"] = Field(
        default="", description="What such a call is worth at least. Nothing makes it less than the tool says."
    )
    deciders: Words = Field(
        default=(REQUESTER,),
        description="Who may decide: `requester` (the person for whom the agent works), logins, `role:…`.",
    )
    quorum: int = Field(default=1, ge=1, le=10, description="How many people have to agree. The first no ends it.")
    two_person: bool = Field(
        default=False, description="Somebody other than the person for whom the agent works has to agree."
    )
    remind_after: Duration = Field(
        default=timedelta(minutes=15), ge=timedelta(0), description="Ask once more after this time. 0: never."
    )
    escalate_after: Duration = Field(
        default=timedelta(0), ge=timedelta(0), description="Ask `escalate_to` as well after this time. 0: never."
    )
    escalate_to: Words = Field(default=(), description="Logins and `role:…` who may decide from then on.")
    expire_after: Duration = Field(
        default=timedelta(0), ge=timedelta(0), le=timedelta(days=30), description="0: `agent.approval_timeout`."
    )

    def to_json(self) -> dict[str, Any]:
        """What differs from the defaults, as it may stand in a file of JSON."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @model_validator(mode="after")
    def _fits_together(self) -> "ApprovalPolicy":
        for name, condition in self.args.items():
            if not is_condition(condition):
                raise ValueError(f"args: the condition for '{name[:40]}' is none of is, begins, longest, from and to.")
        for word in (*self.deciders, *self.escalate_to):
            if word.startswith(ROLE) and word.removeprefix(ROLE) not in set(Role):
                raise ValueError(f"'{word}' names no role. Roles: {', '.join(Role)}.")
        if not self.deciders:
            raise ValueError("deciders is empty: nobody could decide.")
        if REQUESTER in self.escalate_to:
            raise ValueError("escalate_to names other people than the requester.")
        if bool(self.escalate_to) != bool(self.escalate_after):
            raise ValueError("escalate_after and escalate_to belong together.")
        if set(self.deciders) == {REQUESTER} and (self.two_person or self.quorum > 1):
            raise ValueError("deciders: several people have to agree, and only the requester may.")
        return self


class ApprovalsSettings(Section):
    user_verification: Literal["high", "never"] = Field(
        default="high",
        description="Calls of high risk are approved with a passkey, after the device has checked who holds it. "
        "`never` trusts whoever holds an unlocked device.",
    )
    number_match: Literal["high", "never"] = Field(
        default="high",
        description="Calls of high risk are approved with the two digits that the asking side shows.",
    )
    prompts: int = Field(
        default=5, ge=1, le=100, description="How often a person is asked aloud in ten minutes; more wait quietly."
    )
    policies: Annotated[tuple[ApprovalPolicy, ...], BeforeValidator(_tables), Field(max_length=MAX_POLICIES)] = Field(
        default=(),
        description="Who decides what, each as `[[approvals.policies]]` (in the variable: JSON): "
        "docs/how-to/approvals.md.",
    )
