"""What rules say to people and models. Pure."""

from collections.abc import Mapping

from entobot.automations.model import Cause, Value
from entobot.automations.rules import RuleBody, RuleThen, RuleWhen
from entobot.core.clock import rfc3339
from entobot.notifications.wording import one_line
from entobot.things.service import shown


def cause_text(cause: Cause) -> str:
    """Why a rule fired, for people."""
    if cause.device_id is None:
        return f"It was {rfc3339(cause.at_ms)}.{' Earlier times passed while nothing ran.' if cause.has_missed else ''}"
    return f"{cause.thing or 'A thing'}: {_what(cause, cause.value)}, since {rfc3339(cause.at_ms)}."


def note_text(cause: Cause) -> str:
    """The same for a notification, which says by itself when it was."""
    return "" if cause.device_id is None else f"{cause.thing}: {_what(cause, cause.value)}."


def prompt_text(text: str, cause: Cause) -> str:
    """What the agent is asked. A text that a board chose is not put before it: it could be an order."""
    if cause.device_id is None:
        return f"{text}\n\n(Sent by an automation. {cause_text(cause)})"
    value = None if isinstance(cause.value, str) and cause.reading else cause.value
    what = f"{cause.reading} changed; read it with things.read" if value is None else _what(cause, value)
    return (
        f"{text}\n\n(Sent by an automation. {cause.thing} ({cause.device_id}): {what}, since {rfc3339(cause.at_ms)}.)"
    )


def _what(cause: Cause, value: Value | None) -> str:
    if value is None:
        return cause.reading or "its status"
    text = one_line(shown(value, cause.unit))
    return f"{cause.reading} {text}" if cause.reading else text


def when_text(when: RuleWhen, thing: str) -> str:
    """What a rule looks at, in a line."""
    if when.every_minutes is not None:
        return f"every {when.every_minutes} minutes"
    if when.at is not None:
        return f"at {when.at} ({', '.join(when.days) or 'every day'}, {when.zone})"
    lasting = f" for {when.for_minutes:g} minutes" if when.for_minutes else ""
    if when.status is not None:
        return f"{thing} is {when.status}{lasting}"
    words = (("above", when.above), ("below", when.below), ("equals", when.equals), ("differs", when.differs))
    compared = next(f"{word} {shown(value)}" for word, value in words if value is not None)
    return f"{when.reading} of {thing} {compared}{lasting}"


def then_text(then: RuleThen, names: Mapping[str, str]) -> str:
    """What a rule does, in a line; `names` are those of things, by id."""
    if then.do == "notify":
        return f"notify {then.to}"
    if then.do == "ask":
        return "ask the agent"
    return f"command {then.command} to {names.get(then.thing or '', then.thing)}"


def rule_text(body: RuleBody, thing: str, names: Mapping[str, str]) -> str:
    return f"{when_text(body.when, thing)} → {', '.join(then_text(one, names) for one in body.then)}"
