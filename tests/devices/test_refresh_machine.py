"""Refresh against a reference model, over every interleaving that hypothesis finds: answers lost, tokens replayed,
other keys, time passing, restarts.
"""

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from entobot.audit.events import AuditEvent
from entobot.core.errors import Code, Problem
from entobot.devices.model import Credentials
from tests.devices.conftest import File, House
from tests.devices.phone import Phone
from tests.support.time import ManualClock, SeededEntropy

DAY_MS = 86_400_000
STEPS_MS = (1, 3_000, 9_999, 10_000, 10_001, 60_001, DAY_MS, 5 * DAY_MS, 14 * DAY_MS - 1, 14 * DAY_MS)


@dataclass
class Given:
    """A refresh token that was given out, and the first time it was accepted."""

    text: str
    given_at_ms: int
    used_at_ms: int | None = None


@dataclass
class Model:
    """The rules of the protocol over the whole history of tokens, without generations or digests."""

    paired_at_ms: int
    tokens: list[Given] = field(default_factory=list[Given])
    is_alive: bool = True

    def expect(self, index: int, now_ms: int, *, is_own_key: bool) -> Code | str:
        """The code of the refusal, `same` for a repeated successor, or `new`."""
        newest = self.tokens[-1]
        is_over = now_ms >= min(newest.given_at_ms + 14 * DAY_MS, self.paired_at_ms + 90 * DAY_MS)
        if not self.is_alive or not is_own_key or is_over:
            return Code.REFRESH_INVALID
        if index == len(self.tokens) - 1:
            return "new"
        successor = self.tokens[index + 1]
        if successor.used_at_ms is None:
            return "same"
        is_previous = index + 3 == len(self.tokens)
        if is_previous and now_ms - successor.used_at_ms <= 10_000:
            return Code.REFRESH_SUPERSEDED
        self.is_alive = False
        return Code.REFRESH_INVALID


class Refreshing(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = ManualClock()

    @initialize()
    def pair(self) -> None:
        self.house = House(Path(self.folder.name), self.clock, SeededEntropy(), (File(), File()))
        self.runner.run(self.house.database.start())
        self.phone, self.device_id = self.runner.run(self.house.pair())
        self.thief = Phone()
        self.model = Model(self.clock.at_ms, [Given(self.phone.refresh_token, self.clock.at_ms)])
        self.revocations = 0

    def present(self, index: int, phone: Phone) -> None:
        """Present the token at `index` and hold the answer against the model's."""
        now_ms, given = self.clock.at_ms, self.model.tokens[index]
        was_alive = self.model.is_alive
        expected = self.model.expect(index, now_ms, is_own_key=phone is self.phone)
        self.revocations += was_alive and not self.model.is_alive
        answer = self.runner.run(self.ask(given.text, phone))
        if isinstance(answer, Code):
            assert answer == expected
            return
        if expected == "new":
            assert answer.refresh_token not in [token.text for token in self.model.tokens]
            given.used_at_ms = now_ms
            self.model.tokens.append(Given(answer.refresh_token, now_ms))
        else:
            assert expected == "same"
            assert answer.refresh_token == self.model.tokens[index + 1].text
        newest_at_ms = self.model.tokens[-1].given_at_ms
        ends_at_ms = min(newest_at_ms + 14 * DAY_MS, self.model.paired_at_ms + 90 * DAY_MS)
        assert answer.refresh_expires_in == (ends_at_ms - now_ms) // 1000

    async def ask(self, token: str, phone: Phone) -> Credentials | Code:
        try:
            return await self.house.devices.refresh(token, phone.ask_refresh(self.clock.at_ms))
        except Problem as problem:
            return problem.code

    @rule()
    def refresh(self) -> None:
        self.present(len(self.model.tokens) - 1, self.phone)

    @rule()
    def repeat_after_a_lost_answer(self) -> None:
        self.present(max(0, len(self.model.tokens) - 2), self.phone)

    @precondition(lambda self: len(self.model.tokens) > 2)
    @rule(age=st.integers(2, 5))
    def replay_an_old_one(self, age: int) -> None:
        self.present(max(0, len(self.model.tokens) - 1 - age), self.phone)

    @rule(age=st.integers(0, 4))
    def present_with_another_key(self, age: int) -> None:
        self.present(max(0, len(self.model.tokens) - 1 - age), self.thief)

    @rule(step_ms=st.sampled_from(STEPS_MS))
    def wait(self, step_ms: int) -> None:
        self.clock.at_ms += step_ms

    @rule()
    def restart(self) -> None:
        heard = self.house.audit.heard
        self.house = self.runner.run(self.house.reopened())
        self.house.audit.heard = heard

    @invariant()
    def every_revocation_is_audited(self) -> None:
        assert self.house.audit.events().count(AuditEvent.TOKEN_FAMILY_REVOKED) == self.revocations

    def teardown(self) -> None:
        self.runner.run(self.house.database.stop())
        self.runner.close()
        self.folder.cleanup()


Refreshing.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestRefreshing = Refreshing.TestCase
