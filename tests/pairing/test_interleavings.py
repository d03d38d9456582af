"""Any order of events: whatever phones, operators, time and restarts do, what must never happen does not."""

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from entobot.core.errors import Code, Problem
from entobot.devices.model import Credentials
from entobot.pairing.model import ENDED, Confirm, Kind, State
from entobot.pairing.requests import Claimed, CreatedInvite
from tests.pairing.gatehouse import Gatehouse, addresses
from tests.pairing.phones import NewPhone
from tests.support.time import ManualClock, SeededEntropy

ORDINARY = {
    Code.CLAIM_CHANGED,
    Code.INVITE_BURNED,
    Code.INVITE_EXPIRED,
    Code.INVITE_NOT_FOUND,
    Code.INVITE_USED,
    Code.KEY_KNOWN,
    Code.PAIRING_DENIED,
}


MAX_STORIES = 3
DISASTERS = ("cancel", "deny", "long waits", "wrong digits", "wrong secret")
"""A run meets at most two kinds of them, else hardly any pairing would get anywhere."""
WHICH = st.integers(0, MAX_STORIES - 1)
KINDS = (Kind.CODE, Kind.QR)
"""Those by SMS have a number and a provider: test_sms.py."""
STARTS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.sampled_from(Confirm), st.integers(0, 1), st.integers(0, 4)),
    min_size=1,
    max_size=MAX_STORIES - 1,
)


@dataclass
class Story:
    """What the test itself did with one invite; the gateway's opinion is compared with it."""

    created: CreatedInvite
    winner: NewPhone | None = None
    claimed: Claimed | None = None
    said_yes_at_ms: int | None = None
    is_burned: bool = False
    collected: list[Credentials] = field(default_factory=list[Credentials])
    is_in_use: bool = False
    last_seen: State = State.OPEN


def any_story(machine: "Interleavings") -> bool:
    return bool(machine.told)


def any_claim(machine: "Interleavings") -> bool:
    return any(story.claimed for story in machine.told)


def any_collected(machine: "Interleavings") -> bool:
    return any(story.collected for story in machine.told)


def disaster(name: str) -> Callable[["Interleavings"], bool]:
    return lambda machine: bool(machine.told) and name in machine.disasters


class Interleavings(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.fresh = addresses()
        self.phones = [NewPhone(name="first"), NewPhone(name="second")]
        self.told: list[Story] = []
        self.disasters: set[str] = set()

    @initialize(disasters=st.sets(st.sampled_from(DISASTERS), max_size=2), starts=STARTS)
    def open(self, disasters: set[str], starts: list[tuple[Kind, Confirm, int, int]]) -> None:
        """Begin with pairings in all stages, so that short runs reach them."""
        self.disasters = disasters
        path = Path(self.folder.name)
        self.gate = self.runner.run(Gatehouse.open(path, ManualClock(), SeededEntropy()))
        for which, (kind, confirm, phone, steps) in enumerate(starts):
            self.create(kind, confirm)
            happy = [
                lambda which=which, phone=phone: self.claim(which, phone),
                lambda which=which: self.confirm(which),
                lambda which=which, phone=phone: self.collect(which, phone),
                lambda which=which: self.use(which),
            ]
            for step in happy[:steps]:
                step()
                self.an_end_stays_and_a_key_stays()

    def teardown(self) -> None:
        if hasattr(self, "gate"):
            self.runner.run(self.gate.close())
        self.runner.close()
        self.folder.cleanup()

    def attempt(self, step: Any) -> Any:
        """The answer, or the Problem's code, which must be one that these steps may meet."""
        try:
            return self.runner.run(step)
        except Problem as problem:
            if problem.code not in ORDINARY:
                raise
            return problem.code

    def story(self, which: int) -> Story:
        return self.told[which % len(self.told)]

    # -- what people do

    @precondition(lambda self: len(self.told) < MAX_STORIES)
    @rule(kind=st.sampled_from(KINDS), confirm=st.sampled_from(Confirm))
    def create(self, kind: Kind, confirm: Confirm) -> None:
        if kind is Kind.CODE and confirm is Confirm.NONE:
            confirm = Confirm.TYPE
        self.told.append(Story(self.runner.run(self.gate.invite(kind=kind, confirm=confirm))))

    @precondition(any_story)
    @rule(which=WHICH, phone=st.integers(0, 1))
    def claim(self, which: int, phone: int) -> None:
        story = self.story(which)
        mine = self.phones[phone]
        answer = self.attempt(self.gate.claim(mine, story.created, self.fresh()))
        if not isinstance(answer, Claimed):
            return
        if story.winner is None:
            story.winner, story.claimed = mine, answer
            if story.created.invite.confirm is Confirm.NONE:
                story.said_yes_at_ms = self.gate.now_ms
        assert story.winner is mine, "a second key was let in"
        assert story.claimed is not None
        assert answer.claim_id == story.claimed.claim_id
        assert answer.confirmation_code == story.claimed.confirmation_code

    @precondition(disaster("wrong secret"))
    @rule(which=WHICH, phone=st.integers(0, 1))
    def claim_with_a_wrong_secret(self, which: int, phone: int) -> None:
        story = self.story(which)
        if story.created.code is not None:
            step = self.gate.pairing.claim_invite(
                self.phones[phone].claim_code("ZZZZZZZZ", self.gate.now_ms), self.fresh()
            )
        else:
            step = self.gate.claim(self.phones[phone], story.created, self.fresh(), secret="x" * 43)
        answer = self.attempt(step)
        assert not isinstance(answer, Claimed) or story.winner is self.phones[phone], "a wrong secret was taken"

    @precondition(any_claim)
    @rule(which=WHICH)
    def confirm(self, which: int) -> None:
        story = self.story(which)
        if story.claimed is None or story.created.invite.confirm is Confirm.NONE:
            return
        self.answer_as_operator(story, story.claimed.claim_id, is_right=True)

    @precondition(disaster("wrong digits"))
    @rule(which=WHICH)
    def confirm_with_wrong_digits(self, which: int) -> None:
        story = self.story(which)
        if story.claimed is not None and story.created.invite.confirm is Confirm.TYPE:
            self.answer_as_operator(story, story.claimed.claim_id, is_right=False)

    @precondition(any_claim)
    @rule(which=WHICH, another=WHICH)
    def confirm_another_claim(self, which: int, another: int) -> None:
        story = self.story(which)
        other = self.story(another)
        if other.claimed is not None and other is not story and story.created.invite.confirm is not Confirm.NONE:
            assert isinstance(self.answer_as_operator(story, other.claimed.claim_id, is_right=True), Code)

    def answer_as_operator(self, story: Story, claim_id: str, *, is_right: bool) -> Any:
        digits = story.claimed.confirmation_code if story.claimed is not None else "000000"
        if not is_right:
            digits = f"{(int(digits) + 1) % 10**6:06}"
        is_typed = story.created.invite.confirm is Confirm.TYPE
        answer = self.attempt(
            self.gate.pairing.confirm_invite(
                self.gate.owner,
                story.created.invite.invite_id,
                claim_id,
                code=digits if is_typed else None,
                approve=None if is_typed else True,
            )
        )
        if not is_right:
            assert isinstance(answer, Code), "wrong digits were taken"
            story.is_burned = story.is_burned or answer is Code.INVITE_BURNED
        elif isinstance(answer, str) and answer not in ORDINARY and story.said_yes_at_ms is None:
            story.said_yes_at_ms = self.gate.now_ms
        return answer

    @precondition(disaster("deny"))
    @rule(which=WHICH)
    def deny(self, which: int) -> None:
        story = self.story(which)
        if story.claimed is not None:
            invite_id, claim_id = story.created.invite.invite_id, story.claimed.claim_id
            self.attempt(self.gate.pairing.confirm_invite(self.gate.owner, invite_id, claim_id, approve=False))

    @precondition(any_claim)
    @rule(which=WHICH, phone=st.integers(0, 1))
    def collect(self, which: int, phone: int) -> None:
        story = self.story(which)
        if story.claimed is None:
            return
        mine, claim_id = self.phones[phone], story.claimed.claim_id
        answer = self.attempt(self.gate.pairing.collect(claim_id, mine.collect(claim_id, self.gate.now_ms)))
        if not isinstance(answer, Credentials):
            return
        assert mine is story.winner, "another phone collected"
        assert story.said_yes_at_ms is not None, "nobody said yes"
        assert self.gate.now_ms < story.said_yes_at_ms + 10 * 60_000, "too late"
        assert story.last_seen in (State.CONFIRMED, State.PAIRED), story.last_seen
        assert not story.is_burned
        assert not story.is_in_use
        story.collected.append(answer)
        mine.credentials = answer

    @precondition(any_collected)
    @rule(which=WHICH)
    def use(self, which: int) -> None:
        story = self.story(which)
        """The newest credentials let in, all earlier ones do not."""
        if story.winner is None:
            return
        for credentials in story.collected:
            story.winner.credentials = credentials
            shown = story.winner.ask("/api/v1/conversations", self.gate.now_ms)
            try:
                self.runner.run(self.gate.devices.authenticate(shown))
            except Problem:
                continue
            assert credentials is story.collected[-1]
            story.is_in_use = True

    @precondition(disaster("cancel"))
    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        story = self.story(which)
        self.attempt(self.gate.pairing.cancel_invite(self.gate.owner, story.created.invite.invite_id))

    # -- what happens to them

    @rule(seconds=st.integers(0, 20))
    def wait(self, seconds: int) -> None:
        self.gate.clock.advance(seconds)

    @precondition(disaster("long waits"))
    @rule(seconds=st.sampled_from([120, 299, 300, 599, 600]))
    def wait_long(self, seconds: int) -> None:
        self.gate.clock.advance(seconds)

    @rule()
    def sweep(self) -> None:
        self.runner.run(self.gate.pairing.expire())

    @rule()
    def restart(self) -> None:
        self.gate = self.runner.run(self.gate.reopened())

    # -- what must hold

    @invariant()
    def an_end_stays_and_a_key_stays(self) -> None:
        if not hasattr(self, "gate"):
            return
        for story in self.told:
            invite = self.runner.run(self.gate.look(story.created))
            assert story.last_seen not in ENDED or invite.state is story.last_seen
            story.last_seen = invite.state
            held_by = None if invite.claim is None else invite.claim.thumbprint
            assert held_by == (None if story.winner is None else story.winner.thumbprint)
            assert (invite.secret_digest is None) == (invite.state is not State.OPEN)
            assert not story.is_burned or invite.state is State.BURNED
            assert invite.state is not State.PAIRED or story.said_yes_at_ms is not None

    @invariant()
    def a_device_stands_for_one_yes_and_one_key(self) -> None:
        if not hasattr(self, "gate"):
            return
        devices = self.runner.run(self.gate.all_devices())
        paired = [story for story in self.told if story.collected]
        assert len({device.thumbprint for device in devices}) == len(devices)
        assert {device.device_id for device in devices} == {story.collected[0].device_id for story in paired}
        assert len(devices) == len(paired)


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
