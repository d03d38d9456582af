"""Policies by Cedar (https://www.cedarpolicy.com). Imported only where there are some."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import cedarpy

from entobot.policies.engine import Unreadable
from entobot.policies.model import BUILT_IN, SCHEMA, Agent, Asked, Facts, Flaw, Person, Policy, Question, Verdict
from entobot.policies.source import named, place_of, statements_of, stumble

_TIME_WORDS = re.compile(r"hour|minute|weekday|now|\\")
"""An attribute cannot be read without its name; a backslash could hide one."""
_POLICY = re.compile(r"^for policy `[^`]*`, ")
_UNKNOWN = {"__extn": {"fn": "unknown", "arg": "what"}}

Local = Callable[[datetime], datetime]
"""A time in UTC as the gateway's clock on the wall shows it."""


def on_the_wall(at: datetime) -> datetime:
    return at.astimezone()


class CedarEngine:
    def __init__(self, local: Local = on_the_wall) -> None:
        self._local = local
        self._schema = cedarpy.Schema.from_str(SCHEMA)

    def flaws(self, text: str) -> list[Flaw]:
        statements = statements_of(text)
        if not statements:
            return [Flaw(1, 1, "there is no policy in this text")]
        for words in statements:
            source = text[words[0].start : words[-1].end]
            if _error_of(source) is not None:
                at, said = stumble(source, [_moved(word, words[0].start) for word in words], _error_of)
                return [Flaw(*place_of(text, words[0].start + at), said)]
            if json.loads(cedarpy.policies_to_json_str(source))["templates"]:
                said = "templates cannot be used here: name who is meant instead of `?principal` and `?resource`"
                return [Flaw(*place_of(text, named(words, said)), said)]
        found: list[Flaw] = []
        for words in statements:
            source = text[words[0].start : words[-1].end]
            checked = cedarpy.validate_policies(source, self._schema)  # pyright: ignore[reportUnknownMemberType]  it leaves open what its dict is of
            for error in checked.errors:
                said = _POLICY.sub("", error.error)
                found.append(Flaw(*place_of(text, named(words, said)), said))
        return found

    def compile(self, policies: Sequence[Policy]) -> "CedarSet":
        written = _statements(policies)
        every = written | {f"built-in:{name}": one for name, one in _statements(BUILT_IN).items()}
        uses_time = any(_TIME_WORDS.search(one.text) is not None for one in policies)
        return CedarSet(_policy_set(every), _policy_set(written), self._local, uses_time=uses_time)


def _moved(word: Any, by: int) -> Any:
    return type(word)(word.text, word.start - by)


def _error_of(text: str) -> str | None:
    try:
        cedarpy.PolicySet.from_str(text)
    except ValueError as error:
        return str(error)
    return None


def _statements(policies: Sequence[Policy]) -> dict[str, Any]:
    """By the name that a denial gives: that of the policy, with `@id` or a number where it has several statements."""
    found: dict[str, Any] = {}
    for policy in policies:
        try:
            read = json.loads(cedarpy.policies_to_json_str(policy.text))
        except ValueError as error:
            raise Unreadable(f"policy '{policy.name}' cannot be read: {error}") from None
        if read["templates"]:
            raise Unreadable(f"policy '{policy.name}' has templates")
        statements: Mapping[str, Any] = read["staticPolicies"]
        for number, (_, one) in enumerate(sorted(statements.items(), key=lambda item: int(item[0][6:])), 1):
            notes: dict[str, str | None] = one.get("annotations") or {}
            mark = notes.get("id") or str(number)
            name = policy.name if len(statements) == 1 else f"{policy.name}#{mark}"
            found[name if name not in found else f"{policy.name}#{number}"] = one
    return found


def _policy_set(statements: Mapping[str, Any]) -> cedarpy.PolicySet:
    whole: dict[str, Any] = {"templates": {}, "staticPolicies": statements, "templateLinks": []}
    return cedarpy.PolicySet.from_json_str(json.dumps(whole))


class CedarSet:
    def __init__(self, every: cedarpy.PolicySet, written: cedarpy.PolicySet, local: Local, *, uses_time: bool) -> None:
        self._every = every
        self._written = written
        self._local = local
        self.uses_time = uses_time

    def ask(self, question: Question) -> Verdict:
        try:
            return self._ask(question)
        except Exception as error:  # noqa: BLE001  whatever a library of others raises: what is not known is not allowed
            return Verdict(is_allowed=False, failure=f"the policies could not be asked: {type(error).__name__}")

    def _ask(self, question: Question) -> Verdict:
        entities: dict[tuple[str, str], dict[str, Any]] = {}
        principal = _add(entities, question.principal)
        context = self._context(question)
        request: dict[str, Any] = {
            "principal": principal,
            "action": _uid("Action", question.action),
            "context": context,
        }
        if question.resource is not None:
            request["resource"] = _add(entities, question.resource)
        listed = list(entities.values())
        if question.resource is None or question.what is None:
            request |= {key: _as_text(request[key]) for key in ("principal", "action", "resource") if key in request}
            found = cedarpy.is_authorized_partial(request, self._written, listed)  # pyright: ignore[reportUnknownMemberType]  as above
            return Verdict(found.decision is not cedarpy.Decision.Deny, tuple(found.diagnostics.may_be_determining))
        answer = cedarpy.is_authorized(request, self._every, listed)  # pyright: ignore[reportUnknownMemberType]  as above
        if answer.diagnostics.errors:
            return Verdict(is_allowed=False, failure=answer.diagnostics.errors[0])
        return Verdict(answer.allowed, tuple(sorted(answer.diagnostics.reasons)))

    def _context(self, question: Question) -> dict[str, Any]:
        at = datetime.fromtimestamp(question.minute * 60, UTC)
        local = self._local(at)
        name = "command" if question.action is Asked.COMMAND else "topic"
        return {
            name: _UNKNOWN if question.what is None else question.what,
            "hour": local.hour,
            "minute": local.minute,
            "weekday": WEEKDAYS[local.weekday()],
            "now": {"__extn": {"fn": "datetime", "arg": at.strftime("%Y-%m-%dT%H:%M:%SZ")}},
        }


WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def _uid(kind: str, name: str) -> dict[str, str]:
    return {"type": kind, "id": str(name)}


def _as_text(uid: dict[str, str]) -> str:
    """As partial evaluation wants it. Of devices and actions, whose ids are words."""
    return f'{uid["type"]}::"{uid["id"]}"'


def _add(entities: dict[tuple[str, str], dict[str, Any]], one: Person | Agent | Facts) -> dict[str, str]:
    match one:
        case Person():
            uid = _uid("User", one.user_id)
            attrs: dict[str, Any] = {"role": one.role, "manages_devices": one.manages_devices}
        case Agent():
            uid, attrs = _uid("Agent", one.name), {"user": {"__entity": _add(entities, one.person)}}
        case Facts():
            uid = _uid("Device", one.device_id)
            owner = {"__entity": _add(entities, one.owner)}
            attrs = {"owner": owner, "type": one.type, "tags": list(one.tags)}
    entities.setdefault((uid["type"], uid["id"]), {"uid": uid, "attrs": attrs, "parents": []})
    return uid
