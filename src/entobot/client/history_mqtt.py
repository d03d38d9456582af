"""Check what boards said and heard by MQTT against what QoS 1 and 2 promise (MQTT 5 §4.3, §4.4, §4.6). Pure.

The contract: no acknowledged message is lost, of QoS 2 each comes once, of QoS 1 again only over a line that broke in
between, a sender's messages on one topic keep their order, and a session is there again after any crash.

The records of one client, in its order (`Record.kind`, and what it holds):

- `connected` (`present`): CONNACK. The first one of a client begins its session.
- `broken`: the connection ended, in whatever way.
- `published` (`topic`, `qos`, `value`): handed over for the first time; no topic has a value twice.
- `acknowledged` (`topic`, `value`): PUBACK, or for QoS 2 PUBREC, without an error.
- `delivered` (`topic`, `qos`, `value`): heard; of QoS 2 without the repetitions of an open packet identifier.
- `ordered` (`command_id`): the gateway took a command for a board. `obeyed` (`command_id`): the board heard it.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from entobot.client.history import Record, Violation

Message = tuple[str, int]
"""(topic, value)."""


@dataclass(frozen=True, slots=True)
class Ear:
    """Who hears what is below `root`: a client whose session lasts, or several that share a subscription."""

    clients: tuple[str, ...]
    root: str


@dataclass(frozen=True, slots=True)
class Kept:
    """What the gateway has at the end: the values of each topic, and how each command ended."""

    values: Mapping[str, Sequence[int]]
    commands: Mapping[str, str]


@dataclass(slots=True)
class _Sent:
    record: Record
    qos: int
    place: int
    """Among what its client published."""
    acknowledged: Record | None = None


@dataclass(slots=True)
class _Seen:
    sent: dict[Message, _Sent] = field(default_factory=dict[Message, _Sent])
    heard: dict[str, list[Record]] = field(default_factory=dict[str, list[Record]])
    broken: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    ordered: dict[str, Record] = field(default_factory=dict[str, Record])
    obeyed: dict[str, list[Record]] = field(default_factory=dict[str, list[Record]])


def check(records: Iterable[Record], ears: Sequence[Ear], kept: Kept) -> list[Violation]:
    """Every broken promise; empty when the contract held. The histories end when nothing is on its way any more."""
    mine = sorted(records, key=lambda one: one.at_ns)
    seen = _read(mine)
    found = list(_resumed(mine))
    for ear in ears:
        found += _heard(seen, ear)
    return [*found, *_stored(seen, kept), *_commanded(seen, kept)]


def _read(records: Sequence[Record]) -> _Seen:
    seen = _Seen()
    for record in records:
        what = record.what
        match record.kind:
            case "published":
                seen.sent[what["topic"], what["value"]] = _Sent(record, what["qos"], len(seen.sent))
            case "acknowledged":
                seen.sent[what["topic"], what["value"]].acknowledged = record
            case "delivered":
                seen.heard.setdefault(record.client, []).append(record)
            case "broken":
                seen.broken.setdefault(record.client, []).append(record.at_ns)
            case "ordered":
                seen.ordered[what["command_id"]] = record
            case "obeyed":
                seen.obeyed.setdefault(what["command_id"], []).append(record)
            case _:
                pass
    return seen


def _resumed(records: Sequence[Record]) -> Iterator[Violation]:
    """Whoever comes again finds its session."""
    before: dict[str, Record] = {}
    for record in records:
        if record.kind == "connected":
            first = before.setdefault(record.client, record)
            if first is not record and not record.what["present"]:
                yield Violation("a session can be resumed", f"{record.client} found none", (first, record))


def _heard(seen: _Seen, ear: Ear) -> Iterator[Violation]:
    told: dict[Message, list[Record]] = {}
    for client in ear.clients:
        for record in seen.heard.get(client, []):
            told.setdefault((record.what["topic"], record.what["value"]), []).append(record)
    who = ", ".join(ear.clients)
    for message, sent in seen.sent.items():
        if sent.acknowledged is not None and message[0].startswith(ear.root) and message not in told:
            evidence = (sent.record, sent.acknowledged)
            yield Violation("no acknowledged message is lost", f"{who} never heard {message}", evidence)
    for message, records in told.items():
        sent = seen.sent.get(message)
        if sent is None:
            yield Violation("what comes was sent", f"nobody sent {message}", (records[0],))
        else:
            yield from _repeated(seen, ear, sent, sorted(records, key=lambda one: one.at_ns))
    shared = {message for message, records in told.items() if len(ear.clients) > 1 and len(records) > 1}
    for client in ear.clients:
        yield from _disordered(seen, client, shared)


def _repeated(seen: _Seen, ear: Ear, sent: _Sent, records: Sequence[Record]) -> Iterator[Violation]:
    if len(records) == 1:
        return
    text, evidence = f"{records[0].what['value']} came {len(records)} times", (sent.record, *records)
    if sent.qos == 2:
        yield Violation("a message of QoS 2 comes once", text, evidence)
        return
    lines = {sent.record.client, *ear.clients}
    since_ns = sent.record.at_ns
    for again in records[1:]:
        if not any(_breaks(seen.broken.get(line, []), since_ns, again.at_ns) for line in lines):
            yield Violation("a message of QoS 1 comes twice over a broken line only", text, evidence)
            return


def _breaks(times: Sequence[int], since_ns: int, until_ns: int) -> bool:
    return bisect_right(times, until_ns) > bisect_right(times, since_ns)


def _disordered(seen: _Seen, client: str, repeated: AbstractSet[Message]) -> Iterator[Violation]:
    """By where a message stood among what its sender published; what comes again stands where it came first.

    `repeated` are left out: of what several share, a message that comes again may have come to another one before.
    """
    last: dict[tuple[str, str, int], tuple[_Sent, Record]] = {}
    known = set(repeated)
    for record in seen.heard.get(client, []):
        message = record.what["topic"], record.what["value"]
        sent = seen.sent.get(message)
        if sent is None or message in known:
            continue
        known.add(message)
        line = sent.record.client, message[0], sent.qos
        before = last.get(line)
        if before is not None and before[0].place > sent.place:
            text = f"{client} heard {message[1]} after {before[1].what['value']}"
            yield Violation("messages keep their order", text, (sent.record, before[0].record, before[1], record))
        last[line] = sent, record


def _stored(seen: _Seen, kept: Kept) -> Iterator[Violation]:
    for topic, values in kept.values.items():
        for value, count in Counter(values).items():
            sent = seen.sent.get((topic, value))
            if sent is None:
                yield Violation("what is kept was sent", f"{value} of {topic}", ())
            elif count > 1:
                yield Violation("a reading is kept once", f"{value} is there {count} times", (sent.record,))
    there = {(topic, value) for topic, values in kept.values.items() for value in values}
    for message, sent in seen.sent.items():
        if sent.acknowledged is not None and message not in there:
            evidence = (sent.record, sent.acknowledged)
            yield Violation("no acknowledged message is lost", f"{message} is not kept", evidence)


def _commanded(seen: _Seen, kept: Kept) -> Iterator[Violation]:
    promise = "no command is lost"
    for command_id, ordered in seen.ordered.items():
        if command_id not in seen.obeyed:
            yield Violation(promise, f"no board heard {command_id}", (ordered,))
        elif kept.commands.get(command_id) != "done":
            state = kept.commands.get(command_id, "not kept")
            yield Violation(promise, f"{command_id} is {state}", (ordered, seen.obeyed[command_id][0]))
