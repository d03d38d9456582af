"""Who may publish, subscribe and command: what is built in, and what the stored policies say of it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from entobot.core.clock import Clock
from entobot.mqtt.model import Action
from entobot.mqtt.policy import DOWNWARD, Decision, own_subtree
from entobot.policies.engine import Compiled
from entobot.policies.model import Agent, Asked, Facts, Person, Question, Verdict
from entobot.storage.database import StorageFailed, Transaction

MAX_REMEMBERED = 20_000
FACTS_S = 0.5
"""So long what was read of a device is taken as it was: reading it anew for every message would halve their rate."""
MINUTE_MS = 60_000
_ASKED = {Action.PUBLISH: Asked.PUBLISH, Action.SUBSCRIBE: Asked.SUBSCRIBE}

FactsOf = Callable[[str], Facts | None]
"""Of a device that may act; None of any other."""
Ask = Callable[[Question], Verdict]


@dataclass(frozen=True, slots=True)
class Commanding:
    """Somebody wants to command a thing. `via` is `person`, or by what else the command comes, acting for `person`.

    `board` is the device of no person that they came with.
    """

    person: Person
    via: str
    board: Facts | None
    thing: Facts
    command: str

    def actors(self) -> list[Person | Agent | Facts]:
        """All of them must be permitted: who acts for somebody may no more than they."""
        found: list[Person | Agent | Facts] = [self.person]
        if self.via != "person":
            found.append(Agent(self.via, self.person))
        if self.board is not None:
            found.append(self.board)
        return found


def decide_topic(ask: Ask, facts_of: FactsOf, device_id: str, action: Action, text: str, minute: int) -> Decision:
    """Of a topic, or of a filter without `$share/…`. Pure.

    What no policy can open comes first: anything that is not below `devices/`, what the gateway says to a device.
    A filter with wildcards is allowed where something of it might be permitted: what is delivered is decided by its
    own topic, message by message.
    """
    levels = text.split("/")
    if len(levels) < 3 or levels[0] != "devices" or levels[1] == "#":
        return own_subtree(device_id, action, text)
    if levels[2] in DOWNWARD and (action is Action.PUBLISH or levels[1] != device_id):
        return Decision(is_allowed=False, rule=f"{levels[2]} is what the gateway says to a device, and to it alone")
    principal = facts_of(device_id)
    if principal is None:
        return Decision(is_allowed=False, rule="this device may not act")
    rest = text.split("/", 2)[2]
    is_open = action is Action.SUBSCRIBE and ("+" in rest or "#" in rest)
    question = Question(principal, _ASKED[action], None, None if is_open else rest, minute)
    return _decision(device_id, _ask_about(levels[1], ask, facts_of, question))


def _ask_about(target: str, ask: Ask, facts_of: FactsOf, question: Question) -> Verdict:
    """`target` is the device in the topic, or `+`."""
    assert isinstance(question.principal, Facts)
    if target == question.principal.device_id:
        is_granted = question.what is None
        return (
            Verdict(is_allowed=True, rules=("own subtree",))
            if is_granted
            else ask(replace(question, resource=question.principal))
        )
    if target == "+":
        return ask(question)
    resource = facts_of(target)
    if resource is None:
        return Verdict(is_allowed=False, failure=f"there is no device {target[:64]}")
    return ask(replace(question, resource=resource))


def _decision(device_id: str, verdict: Verdict) -> Decision:
    if verdict.is_allowed:
        return Decision(is_allowed=True, rule=", ".join(verdict.rules))
    return Decision(
        is_allowed=False, rule=why_not(verdict) or f"no policy permits it; a device reaches devices/{device_id}/ only"
    )


def why_not(verdict: Verdict) -> str:
    """Empty where nothing permits it."""
    if verdict.failure:
        return verdict.failure
    return f"policy {', '.join(verdict.rules)} forbids it" if verdict.rules else ""


def decide_command(ask: Ask, wanted: Commanding, minute: int) -> Decision:
    """Pure."""
    rules: list[str] = []
    for actor in wanted.actors():
        verdict = ask(Question(actor, Asked.COMMAND, wanted.thing, wanted.command, minute))
        if not verdict.is_allowed:
            return Decision(is_allowed=False, rule=why_not(verdict) or "no policy permits it")
        rules += [rule for rule in verdict.rules if rule not in rules]
    return Decision(is_allowed=True, rule=", ".join(rules))


class Decider:
    """Asks the set of policies in force, and remembers what it said until the set or what it depends on changes.

    Everything on which an answer depends is in the question: a device with other tags asks another one, half a second
    later at most.
    """

    def __init__(self, clock: Clock, facts_of: Callable[[Transaction, str], Facts | None]) -> None:
        self._clock = clock
        self._facts_of = facts_of
        self._compiled: Compiled | None = None
        self._known: dict[Question, Verdict] = {}
        self._facts: dict[str, tuple[float, Facts | None]] = {}
        self._minute = 0

    @property
    def compiled(self) -> Compiled | None:
        """None where no policy is stored: what is built in needs no engine."""
        return self._compiled

    def use(self, compiled: Compiled | None) -> None:
        self._compiled = compiled
        self._known = {}

    def minute(self) -> int:
        return self._clock.now_ms() // MINUTE_MS

    def decide(self, tx: Transaction, device_id: str, action: Action, text: str) -> Decision:
        if self._compiled is None:
            return own_subtree(device_id, action, text)
        return decide_topic(self._ask, lambda one: self._recent(tx, one), device_id, action, text, self._time())

    def decide_anew(self, tx: Transaction, device_id: str, action: Action, text: str) -> Decision:
        """By what the devices are at this moment."""
        self._facts.clear()
        return self.decide(tx, device_id, action, text)

    def _recent(self, tx: Transaction, device_id: str) -> Facts | None:
        now_s = self._clock.monotonic()
        known = self._facts.get(device_id)
        if known is not None and now_s < known[0]:
            return known[1]
        if len(self._facts) >= MAX_REMEMBERED:
            self._facts.clear()
        found = self._facts_of(tx, device_id)
        self._facts[device_id] = now_s + FACTS_S, found
        return found

    def may_receive(self, tx: Transaction, device_id: str, topic: str) -> bool:
        return self.decide(tx, device_id, Action.SUBSCRIBE, topic).is_allowed

    def decide_command(self, wanted: Commanding) -> Decision:
        assert self._compiled is not None
        return decide_command(self._ask, wanted, self._time())

    def _time(self) -> int:
        """0 where nothing depends on it, so that answers stay the same."""
        compiled = self._compiled
        if compiled is None or not compiled.uses_time:
            return 0
        minute = self.minute()
        if minute != self._minute:
            self._minute, self._known = minute, {}
        return minute

    def _ask(self, question: Question) -> Verdict:
        known = self._known  # before the set: `use` may come in between, on the loop's thread
        compiled = self._compiled
        verdict = known.get(question)
        if verdict is not None:
            return verdict
        if compiled is None:
            raise StorageFailed("the policies changed; ask again")
        if len(known) >= MAX_REMEMBERED:
            known.clear()
        verdict = known[question] = compiled.ask(question)
        return verdict
