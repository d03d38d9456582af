"""Record what clients did and were told, and check it against the delivery contract. The checker is pure.

The contract: no acknowledged message is lost; a user's events have one order, the same for every device, none skipped
and none twice; a command has its effect at most once; whatever cannot be continued is reset, openly.
"""

import json
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from entobot.core.secrets import sha256_b64u

Stored = Mapping[str, list[dict[str, Any]]]
"""Per user id: the rows of all messages at the end, as `conversation.history` gives them."""


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a client's history. `at_ns` is the machine's monotonic clock, the same for all its processes."""

    client: str
    at_ns: int
    kind: str
    what: dict[str, Any]

    def __str__(self) -> str:
        shown = {k: v for k, v in self.what.items() if k not in ("digest", "connection") and v is not None}
        return f"{self.client}  {self.kind}  {json.dumps(shown, ensure_ascii=False, default=str)[:300]}"


class Recorder:
    """`connector.Observer` that keeps everything, in memory and, if asked, as JSON lines."""

    def __init__(self, client: str, file: Path | None = None, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.records: list[Record] = []
        self._client = client
        self._now_ns = now_ns
        self._file: IO[str] | None = None if file is None else file.open("a", encoding="utf-8", buffering=1)

    def note(self, kind: str, **what: object) -> None:
        if kind == "event":
            what = _event(what)
        record = Record(self._client, self._now_ns(), kind, dict(what))
        self.records.append(record)
        if self._file is not None:
            line = {"client": record.client, "at_ns": record.at_ns, "kind": kind, "what": record.what}
            self._file.write(json.dumps(line, default=str) + "\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def read_records(file: Path) -> list[Record]:
    """What a `Recorder` wrote; a last line that a crash cut is left out."""
    lines = file.read_text("utf-8").split("\n")
    return [Record(**json.loads(line)) for line in lines[:-1]]


def _event(what: dict[str, object]) -> dict[str, object]:
    frame: dict[str, Any] = json.loads(what.pop("frame"))  # pyright: ignore[reportArgumentType]  bytes of a frame
    event = frame["event"]
    data = event.get("data", {})
    known = {name: data[name] for name in ("message_id", "content", "role", "approval_id", "decision") if name in data}
    digest = sha256_b64u(json.dumps([frame["topic"], event], sort_keys=True))[:16]
    return {**what, "type": event["type"], "digest": digest, **known}


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise, and the few records that show it."""

    promise: str
    text: str
    evidence: tuple[Record, ...]

    def to_text(self) -> str:
        """The counterexample, oldest first; seconds count from its first record."""
        records = sorted(self.evidence, key=lambda record: record.at_ns)
        begun = records[0].at_ns if records else 0
        return "\n".join(
            [f"{self.promise}: {self.text}", *(f"  +{(r.at_ns - begun) / 1e9:9.4f} s  {r}" for r in records)]
        )


@dataclass(slots=True)
class Stretch:
    """A part of a stream that one client has seen without a gap: everything after `after`, up to `upto`."""

    client: str
    stream: str
    after: int
    upto: int
    begun: Record
    last: Record
    events: dict[int, Record] = field(default_factory=dict[int, Record])

    def covers(self, seq: int) -> bool:
        return self.after < seq <= self.upto


@dataclass(slots=True)
class Sending:
    """One command, from the first attempt to its answer."""

    sent: Record
    answered: Record | None = None

    @property
    def command_id(self) -> str:
        return self.sent.what["id"]

    @property
    def result(self) -> dict[str, Any] | None:
        return None if self.answered is None else self.answered.what.get("data")

    @property
    def is_refused(self) -> bool:
        code = None if self.answered is None else self.answered.what.get("code")
        return code is not None and code not in ("no_answer", "internal")


def check(
    records: Iterable[Record],
    *,
    stored: Stored | None = None,
    allowed_resets: frozenset[str] = frozenset(),
    is_contiguous: bool = True,
) -> list[Violation]:
    """Every broken promise found; empty when the contract held.

    `allowed_resets` are reasons that may come after a resume (`expired` where retention is short). `is_contiguous`:
    the devices hold all scopes that events have, so that numbers follow one another. The histories must end when
    nothing is on its way any more.
    """
    by_client: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda one: one.at_ns):
        by_client.setdefault(record.client, []).append(record)
    found: list[Violation] = []
    by_user: dict[str, _User] = {}
    for mine in by_client.values():
        reader = _Reader(allowed_resets, is_contiguous=is_contiguous)
        reader.read(mine)
        found += reader.violations
        user = by_user.setdefault(reader.user, _User(reader.user))
        user.stretches += reader.stretches
        user.sendings += reader.sendings.values()
    for user in by_user.values():
        found += user.check(None if stored is None else stored.get(user.user_id, []))
    return found


class _Reader:
    """One client's records in their order: what it saw, and whether it was brought in order."""

    def __init__(self, allowed_resets: frozenset[str], *, is_contiguous: bool) -> None:
        self.user = ""
        self.stretches: list[Stretch] = []
        self.sendings: dict[str, Sending] = {}
        self.violations: list[Violation] = []
        self._allowed_resets = allowed_resets
        self._is_contiguous = is_contiguous
        self._ready: Record | None = None
        self._is_reset = False
        self._processed = 0
        self._received = 0

    def read(self, records: list[Record]) -> None:
        for record in records:
            handle = getattr(self, f"_on_{record.kind}", None)
            if handle is not None:
                handle(record)

    def _violated(self, promise: str, text: str, *evidence: Record | None) -> None:
        self.violations.append(Violation(promise, text, tuple(one for one in evidence if one is not None)))

    @property
    def _stretch(self) -> Stretch | None:
        return self.stretches[-1] if self.stretches else None

    # -- connections

    def _on_started(self, record: Record) -> None:
        """A program starts, perhaps again: it goes on where it had processed, which may be before what it received."""
        position, known = record.what["position"], self._stretch
        if position is None or known is None:
            return
        if position["stream"] == known.stream and position["after"] > known.upto:
            self._violated("a client resumes where it left", f"at {known.upto}", known.last, record)
        after = position["after"]
        self.stretches.append(Stretch(record.client, position["stream"], after, after, record, record))

    def _on_ready(self, record: Record) -> None:
        self.user = record.what["user"]
        self._ready, self._is_reset = record, False
        resume, stretch = record.what["resume"], self._stretch
        if resume is None or stretch is None:
            return
        if (resume["stream"], resume["after"]) != (stretch.stream, stretch.upto):
            self._violated("a client resumes where it left", f"at {stretch.upto}", stretch.last, record)

    def _on_reset(self, record: Record) -> None:
        assert self._ready is not None
        self._is_reset = True
        asked = self._ready.what["resume"]
        if asked is not None and record.what["reason"] not in self._allowed_resets:
            text = f"reset {record.what['reason']!r} to a client that had everything up to {asked['after']}"
            last = None if self._stretch is None else self._stretch.last
            self._violated("what was acknowledged can be resumed", text, last, self._ready, record)

    def _on_snapshot(self, record: Record) -> None:
        seq, stream = record.what["seq"], record.what["stream"]
        if not self._is_reset:
            self._violated("a snapshot is announced by a reset", f"at {seq}", self._ready, record)
        self._processed, self._received = 0, seq
        self.stretches.append(Stretch(record.client, stream, seq, seq, record, record))

    def _on_resume_done(self, record: Record) -> None:
        stretch, seq = self._stretch, record.what["seq"]
        if stretch is None or self._is_reset:
            self._violated("resume_done follows a resume", f"at {seq}", self._ready, record)
            return
        if self._is_contiguous and seq > stretch.upto:
            text = f"resumed 'up to {seq}', and nothing came after {stretch.upto}"
            self._violated("no event is skipped", text, stretch.last, self._ready, record)
        if seq > stretch.upto:
            stretch.upto, stretch.last = seq, record
        self._received = max(self._received, seq)

    def _on_event(self, record: Record) -> None:
        stretch, seq = self._stretch, record.what["seq"]
        if stretch is None or stretch.stream != record.what["stream"]:
            self._violated("events follow a snapshot or a resume", f"event {seq}", self._ready, record)
            return
        if seq <= stretch.upto:
            again = stretch.events.get(seq, stretch.last)
            self._violated("no event comes twice or out of order", f"{seq} after {stretch.upto}", again, record)
            return
        if self._is_contiguous and seq != stretch.upto + 1:
            self._violated("no event is skipped", f"{seq} after {stretch.upto}", stretch.last, self._ready, record)
        stretch.events[seq] = record
        stretch.upto, stretch.last = seq, record
        self._received = seq

    def _on_processed(self, record: Record) -> None:
        self._processed = max(self._processed, record.what["seq"])

    def _on_ack(self, record: Record) -> None:
        seq = record.what["seq"]
        if seq > self._received:
            self._violated("only what was received is acknowledged", f"{seq} of {self._received}", record)

    # -- commands

    def _on_sent(self, record: Record) -> None:
        self.sendings.setdefault(record.what["id"], Sending(record))

    def _on_answered(self, record: Record) -> None:
        sending = self.sendings.setdefault(record.what["id"], Sending(record))
        if sending.answered is None:
            sending.answered = record
        elif sending.answered.what.get("data") != record.what.get("data"):
            text = f"command {sending.command_id} was answered in two ways"
            self._violated("a command has one result", text, sending.answered, record)


@dataclass(slots=True)
class _User:
    """What all devices of one user saw, against each other and against what was sent."""

    user_id: str
    stretches: list[Stretch] = field(default_factory=list[Stretch])
    sendings: list[Sending] = field(default_factory=list[Sending])

    def check(self, stored: list[dict[str, Any]] | None) -> Iterator[Violation]:
        streams = {stretch.stream for stretch in self.stretches}
        for stream in streams:
            mine = [stretch for stretch in self.stretches if stretch.stream == stream]
            truth, conflicts = _merged(mine)
            yield from conflicts
            yield from _skipped(mine, truth)
        yield from self._lost(stored)
        yield from self._repeated(stored)
        yield from self._disordered()

    def _messages(self) -> list[Sending]:
        return [one for one in self.sendings if one.sent.what.get("name") == "message.send"]

    def _lost(self, stored: list[dict[str, Any]] | None) -> Iterator[Violation]:
        there = None if stored is None else {row["message_id"] for row in stored}
        promise = "no acknowledged message is lost"
        for sending in self._messages():
            result = sending.result
            if result is None or sending.answered is None:
                continue
            message_id, seq = result["message_id"], result["seq"]
            evidence = (sending.sent, sending.answered)
            if there is not None and message_id not in there:
                yield Violation(promise, f"{message_id} is not stored", evidence)
            covering = [stretch for stretch in self.stretches if stretch.covers(seq)]
            for stretch in covering:
                event = stretch.events.get(seq)
                if event is None or event.what.get("message_id") != message_id:
                    text = f"{stretch.client} was brought past {seq} without {message_id}"
                    around = (event or stretch.last, *evidence)
                    yield Violation(promise, text, around)
            if not covering and there is None:
                yield Violation(promise, f"no client was ever told of {message_id} at {seq}", evidence)

    def _repeated(self, stored: list[dict[str, Any]] | None) -> Iterator[Violation]:
        """By content: whoever records a campaign sends no text twice."""
        sent = [json.loads(one.sent.what["data"])["content"] for one in self._messages() if "data" in one.sent.what]
        effects = self._effects(stored)
        for sending in self._messages():
            if "data" not in sending.sent.what:
                continue
            content = json.loads(sending.sent.what["data"])["content"]
            found = effects.get(content, {})
            evidence = [one for one in (sending.sent, sending.answered, *found.values()) if one is not None]
            if len(found) > 1 and sent.count(content) == 1:
                text = f"command {sending.command_id} made {', '.join(found)}"
                yield Violation("a command has its effect once", text, tuple(evidence))
            if found and sending.is_refused:
                text = f"command {sending.command_id} was refused and made {', '.join(found)}"
                yield Violation("a refused command leaves nothing behind", text, tuple(evidence))

    def _effects(self, stored: list[dict[str, Any]] | None) -> dict[str, dict[str, Record | None]]:
        """Per content the messages of users that hold it, each with an event that told of it."""
        found: dict[str, dict[str, Record | None]] = {}
        for row in stored or []:
            if row["role"] == "user":
                found.setdefault(row["content"], {})[row["message_id"]] = None
        for stretch in self.stretches:
            for event in stretch.events.values():
                if event.what.get("role") == "user":
                    found.setdefault(event.what["content"], {})[event.what["message_id"]] = event
        return found

    def _disordered(self) -> Iterator[Violation]:
        """What was sent after an answer stands after it, whoever of the user's devices sent either."""
        done = [one for one in self._messages() if one.result is not None and one.answered is not None]
        ends = sorted(done, key=lambda one: one.answered.at_ns if one.answered else 0)
        times = [one.answered.at_ns for one in ends if one.answered]
        highest: list[Sending] = []
        for one in ends:
            before = highest[-1] if highest else one
            highest.append(one if _seq(one) >= _seq(before) else before)
        for sending in done:
            earlier = bisect_right(times, sending.sent.at_ns) - 1
            if earlier >= 0 and _seq(highest[earlier]) >= _seq(sending) and highest[earlier] is not sending:
                first = highest[earlier]
                text = f"{_seq(sending)} was sent after {_seq(first)} had its answer"
                around = (first.sent, first.answered, sending.sent, sending.answered)
                yield Violation("a user's messages keep their order", text, tuple(one for one in around if one))


def _seq(sending: Sending) -> int:
    assert sending.result is not None
    return sending.result["seq"]


def _merged(stretches: list[Stretch]) -> tuple[dict[int, Record], list[Violation]]:
    """All events by number; two devices must have been told the same."""
    truth: dict[int, Record] = {}
    conflicts: list[Violation] = []
    for stretch in stretches:
        for seq, event in stretch.events.items():
            known = truth.setdefault(seq, event)
            if known.what["digest"] != event.what["digest"]:
                text = f"{seq} is {known.what['type']} to {known.client} and {event.what['type']} to {event.client}"
                conflicts.append(Violation("all devices of a user see one history", text, (known, event)))
    return truth, conflicts


def _skipped(stretches: list[Stretch], truth: dict[int, Record]) -> Iterator[Violation]:
    for stretch in stretches:
        for seq, event in truth.items():
            if stretch.covers(seq) and seq not in stretch.events:
                after = [other for number, other in stretch.events.items() if number > seq]
                evidence = (event, min(after, key=lambda one: one.what["seq"]) if after else stretch.last)
                yield Violation("no event is skipped", f"{stretch.client} was brought past {seq}", evidence)


def report(violations: list[Violation], *, at_most: int = 5) -> str:
    """Counterexamples for a person, the smallest first."""
    smallest = sorted(violations, key=lambda one: len(one.evidence))
    lines = [one.to_text() for one in smallest[:at_most]]
    if len(violations) > at_most:
        lines.append(f"… and {len(violations) - at_most} more")
    return "\n".join(lines)
