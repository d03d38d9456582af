"""REST of policies: translate only."""

from typing import Annotated, Any, Literal

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from entobot.core.clock import rfc3339
from entobot.core.errors import Code, Problem
from entobot.mqtt.model import Action
from entobot.mqtt.packets import Malformed
from entobot.mqtt.topics import MAX_TOPIC_BYTES, check_filter, check_name
from entobot.policies.model import BUILT_IN, MAX_TEXT_CHARACTERS, SCHEMA, Policy
from entobot.policies.service import Policies, Shift
from entobot.web.authentication import Caller
from entobot.web.routes import Api

AT = "/api/v1/policies"
MAX_BODY_BYTES = 4 * MAX_TEXT_CHARACTERS + 1024
Name = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9._-]{0,63}$")]
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARACTERS, description="In Cedar.")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PolicyRow(_Body):
    name: str
    text: str
    is_built_in: bool
    version: int = Field(description="Counts the changes of all policies; 0 of what is built in.")
    changed_by: str
    changed_at: str | None


class PolicyList(_Body):
    rows: list[PolicyRow] = Field(description="What is built in first.")
    cedar_schema: str = Field(description="What policies may name.")


class VersionRow(_Body):
    version: int
    text: str = Field(description="Empty: it was removed.")
    changed_by: str
    changed_at: str


class PolicyPage(PolicyRow):
    versions: list[VersionRow] = Field(description="The newest 50, newest first.")


class NewText(_Body):
    text: Text
    based_on: int | None = Field(
        default=None,
        strict=True,
        ge=0,
        le=2**53,
        description="The version that was looked at, 0 where there was none: refused where it is another by now.",
    )


class RemovedPolicy(_Body):
    name: str


class Proposal(_Body):
    name: Name
    text: str = Field(max_length=MAX_TEXT_CHARACTERS, description="Empty: as if it were removed.")


class FlawRow(_Body):
    line: int
    column: int
    text: str


class ShiftRow(_Body):
    device_id: str
    device_name: str
    action: Literal["publish", "subscribe"]
    topic: str
    becomes: Literal["allowed", "denied"]
    rule: str


class CheckedBody(_Body):
    flaws: list[FlawRow] = Field(description="Empty: it can be stored.")
    shifts: list[ShiftRow] = Field(description="Who would gain or lose what devices do at present.")
    looked_at: int = Field(description="At so many topics and filters.")
    has_more: bool


class Explain(_Body):
    device_id: str = Field(max_length=64, description="Who publishes or subscribes; of a command, the thing.")
    publish: str | None = Field(default=None, max_length=MAX_TOPIC_BYTES, description="A topic.")
    subscribe: str | None = Field(default=None, max_length=MAX_TOPIC_BYTES, description="A topic or filter.")
    command: str | None = Field(default=None, max_length=64)
    by: str | None = Field(default=None, max_length=64, description="The user who commands.")
    via: Literal["person", "agent"] = "person"
    with_device: str | None = Field(default=None, max_length=64, description="The board that commands for them.")


class Explained(_Body):
    is_allowed: bool
    rule: str = Field(description="What permits it, or why not.")


def add_routes(api: Api, policies: Policies) -> None:
    routes, one = _Routes(policies), AT + "/{name}"
    api.add("GET", AT, routes.list_policies)
    api.add("GET", one, routes.show_policy, problems=(Code.NOT_FOUND,))
    api.add(
        "PUT",
        one,
        routes.put_policy,
        max_body_bytes=MAX_BODY_BYTES,
        problems=(Code.POLICY_CHANGED, Code.POLICY_UNAVAILABLE, Code.QUOTA_EXCEEDED),
    )
    api.add("DELETE", one, routes.remove_policy, problems=(Code.NOT_FOUND,))
    api.add(
        "POST",
        AT + "/check",
        routes.check_policy,
        max_body_bytes=MAX_BODY_BYTES,
        problems=(Code.POLICY_UNAVAILABLE,),
    )
    api.add("POST", AT + "/explain", routes.explain_policies, problems=(Code.NOT_FOUND,))


class _Routes:
    def __init__(self, policies: Policies) -> None:
        self._policies = policies

    async def list_policies(self, principal: Caller) -> PolicyList:
        """What is built in, and what was written."""
        found = await self._policies.all(principal)
        return PolicyList(rows=[PolicyRow(**_row(one)) for one in (*BUILT_IN, *found)], cedar_schema=SCHEMA)

    async def show_policy(self, name: str, principal: Caller) -> PolicyPage:
        found, versions = await self._policies.find(principal, name)
        return PolicyPage(**_row(found), versions=[_version(one) for one in versions])

    async def put_policy(self, name: Name, body: NewText, principal: Caller) -> PolicyRow:
        """Store a policy, or a new version of it. Live connections feel it within a second."""
        return PolicyRow(**_row(await self._policies.put(principal, name, body.text, body.based_on)))

    async def remove_policy(self, name: str, principal: Caller) -> RemovedPolicy:
        """Live connections feel it within a second. Its versions stay."""
        await self._policies.remove(principal, name)
        return RemovedPolicy(name=name)

    async def check_policy(self, body: Proposal, principal: Caller, response: Response) -> CheckedBody:
        """What is wrong with a text, else who would gain or lose something by it. Nothing is stored."""
        response.headers["Cache-Control"] = "no-store"
        found = await self._policies.check(principal, body.name, body.text)
        return CheckedBody(
            flaws=[FlawRow(line=one.line, column=one.column, text=one.text) for one in found.flaws],
            shifts=[_shift(one) for one in found.shifts],
            looked_at=found.looked_at,
            has_more=found.has_more,
        )

    async def explain_policies(self, body: Explain, principal: Caller) -> Explained:
        """Whether something would be allowed now, and which rule says so. Nothing is done."""
        asked = [one for one in (body.publish, body.subscribe, body.command) if one is not None]
        if len(asked) != 1:
            raise Problem(Code.INVALID, "Name one of publish, subscribe, command.")
        if body.command is not None:
            by = body.by or principal.user_id
            found = await self._policies.explain_command(
                principal, body.device_id, body.command, by, body.via, body.with_device
            )
        else:
            action = Action.PUBLISH if body.publish is not None else Action.SUBSCRIBE
            _check_topic(action, asked[0])
            found = await self._policies.explain_topic(principal, body.device_id, action, asked[0])
        return Explained(is_allowed=found.is_allowed, rule=found.rule)


def _check_topic(action: Action, text: str) -> None:
    try:
        if action is Action.PUBLISH:
            check_name(text)
        else:
            check_filter(text)
    except Malformed as error:
        raise Problem(Code.INVALID, f"{error}.") from None


def _row(one: Policy) -> dict[str, Any]:
    return {
        "name": one.name,
        "text": one.text,
        "is_built_in": one.number == 0,
        "version": one.number,
        "changed_by": one.changed_by,
        "changed_at": rfc3339(one.changed_at_ms) if one.number else None,
    }


def _version(one: Policy) -> VersionRow:
    return VersionRow(
        version=one.number, text=one.text, changed_by=one.changed_by, changed_at=rfc3339(one.changed_at_ms)
    )


def _shift(one: Shift) -> ShiftRow:
    return ShiftRow(
        device_id=one.known.device_id,
        device_name=one.device_name,
        action="publish" if one.known.action is Action.PUBLISH else "subscribe",
        topic=one.known.text,
        becomes="allowed" if one.is_gained else "denied",
        rule=one.rule,
    )
