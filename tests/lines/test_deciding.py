"""Approving by SMS: what may be decided so, and by whom; in time that the tests move."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest

from entobot.accounts import store as accounts_store
from entobot.approvals import code_store
from entobot.approvals.codes import Codes
from entobot.approvals.model import Question, Risk
from entobot.audit.events import AuditEvent
from entobot.callbacks.service import Callbacks
from entobot.config_approvals import ApprovalsSettings
from entobot.config_callbacks import CallbackSettings
from entobot.core.ids import Prefix
from entobot.core.networks import Networks
from entobot.core.permissions import ALL_SCOPES, Role
from entobot.core.principal import Principal
from entobot.lines.service import Lines, Parts
from entobot.memos.service import Memos
from entobot.notifications import place_store
from entobot.notifications.channel import Parcel
from entobot.notifications.channel_sms import SmsOutlet, note_outcome
from entobot.notifications.model import Channel, Place, Priority
from entobot.notifications.places import NewPlace, Places
from entobot.notifications.rules import DEFAULT, Step
from entobot.notifications.service import Notifications
from entobot.questions.service import Questions
from entobot.signin.sealing import Seal
from tests.approvals.test_people import person, told
from tests.notifications.conftest import House
from tests.notifications.test_sms_sending import ADA, BOB, Post
from tests.support.agency import Agency, Event, Pocket
from tests.support.time import ManualClock, SeededEntropy

ON_EVERY_STORE = True
MINUTE = timedelta(minutes=1)
CODE = re.compile(r"YES (\d{6}) or NO \1")
WRONG = "That is no code of yours."


class Desk:
    """A gateway that sends and reads SMS, with Ada's number confirmed. `is_on`: `sms.approvals`."""

    def __init__(self, agency: Agency, house: House, post: Post, clock: ManualClock, *, is_on: bool = True) -> None:
        self.agency, self.house, self.post, self.clock = agency, house, post, clock
        post.outbox = post.new_outbox(answers_per_hour=100, per_number_per_hour=100, per_day=1000)
        self.outlet = SmsOutlet(post.outbox, agency.database, clock)
        house.outlets = {Channel.SMS: self.outlet}
        self.places = Places(
            database=agency.database,
            clock=clock,
            ids=agency.ids,
            entropy=agency.entropy,
            audit=house.audit,
            guard=agency.devices.guard,
            meters=house.meters,
            channels=frozenset(house.outlets),
            allowed=Networks(),
            code_key=b"c" * 32,
            seal=Seal(b"s" * 32, agency.entropy),
            check_number=self.outlet.check,
        )
        self.codes = Codes(agency.approvals, audit=agency.audit, entropy=agency.entropy, key=b"a" * 32)
        self.outlet.offer = self._offer
        self.lines = Lines(self._parts(self.codes if is_on else None))
        self._texts = post.node()
        self._texts.on_told = note_outcome
        self._heard = 0

    def _parts(self, codes: Codes | None) -> Parts:
        agency, house = self.agency, self.house
        questions = Questions(
            ids=agency.ids,
            stream=agency.stream,
            bus=agency.bus,
            audit=agency.audit,
            accounts=agency.accounts,
            notifications=house.service,
            callbacks=Callbacks(ids=agency.ids, bus=agency.bus, settings=CallbackSettings()),
            guard=agency.devices.guard,
        )
        return Parts(
            database=agency.database,
            accounts=agency.accounts,
            places=self.places,
            outbox=self.post.outbox,
            memos=Memos(database=agency.database, clock=self.clock, ids=agency.ids, notifications=house.service),
            conversations=agency.conversations,
            approvals=agency.approvals,
            questions=questions,
            zone_of=self._zone,
            origin="https://gate.example",
            describe=lambda: "Kitchen:",
            codes=codes,
        )

    async def _zone(self, _name: str) -> tzinfo | None:
        return UTC

    def _offer(self, tx: Any, parcel: Parcel, now_ms: int) -> str:
        approval_id = parcel.path.removeprefix("/approvals/")
        offer = self.codes.offer(tx, parcel.place.user_id, parcel.place.place_id, approval_id, now_ms)
        return "" if offer is None else offer.text(now_ms)

    async def confirm(self, number: str, user_id: str) -> Place:
        """This person shows that they read there."""
        who = Principal(user_id, ALL_SCOPES)
        place = await self.places.add(who, NewPlace(Channel.SMS, number))
        code = await self.places.new_code(who, place.place_id)
        return await self.places.confirm(who, place.place_id, code)

    async def write(self, text: str, number: str = ADA.e164) -> str:
        """What is said back; empty: nothing."""
        self._heard += 1
        key, now_ms, before = f"SM{self._heard}", self.clock.now_ms(), len(self.post.provider.sent)
        do = await self.lines.prepare(number, text)
        await self.agency.database.write(lambda tx: do(tx, key, now_ms))
        await self._texts.look()
        return "\n".join(sms.text for sms in self.post.provider.sent[before:])

    async def ask(self, args_json: str = '{"text":"milk"}', tool: str = "note", **changes: Any) -> Event:
        now_ms = self.clock.now_ms()
        question = Question(
            user_id=self.agency.user_id,
            run_id=self.agency.ids.new(Prefix.RUN),
            conversation_id="cnv_1",
            tool_call_id="tcl_1",
            tool=tool,
            args_json=args_json,
            title="Note: milk",
            risk=changes.get("risk", Risk.LOW),
        )
        expires_at_ms = now_ms + changes.get("life_ms", 7_200_000)
        await self.agency.database.write(
            lambda tx: self.agency.approvals.ask(tx, question, expires_at_ms=expires_at_ms, now_ms=now_ms)
        )
        return (await self.agency.of("approval.requested"))[-1]

    async def code(self, number: str = ADA.e164) -> str:
        """Of what PENDING says first."""
        said = await self.write("PENDING", number)
        found = CODE.search(said)
        assert found is not None, said
        return found[1]

    async def state(self, approval: Event) -> tuple[str, list[str]]:
        """And how each who decided was known."""
        view = await self.agency.database.read(
            lambda tx: self.agency.approvals.get(tx, self.agency.user_id, approval["approval_id"])
        )
        return str(view.approval.state), [str(vote.verified) for vote in view.votes]

    def wrong(self, code: str) -> str:
        return f"{(int(code) + 1) % 1_000_000:06}"


@pytest.fixture(params=[True], ids=[""])
async def desk(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock, entropy: SeededEntropy
) -> AsyncIterator[Desk]:
    made: list[tuple[House, Post]] = []

    def notifications(agency: Agency) -> Notifications:
        made.append((House(agency.database, clock, agency.ids), Post(agency.database, clock, agency.ids)))
        return made[0][0].service

    agency = Agency(tmp_path, clock, entropy, notifications=notifications)
    await agency.open(works=False)
    ((house, post),) = made
    house.owner = Principal(agency.user_id, ALL_SCOPES)
    desk = Desk(agency, house, post, clock, is_on=request.param)
    await desk.confirm(ADA.e164, agency.user_id)
    yield desk
    await agency.close()


@pytest.fixture
async def phone(desk: Desk) -> Pocket:
    return await desk.agency.pair()


# -- what it is for


@pytest.mark.parametrize(("word", "state"), [("YES", "approved"), ("no", "denied")])
async def test_a_call_of_low_risk_is_decided_by_the_code_that_pending_shows(desk: Desk, word: str, state: str) -> None:
    approval = await desk.ask()
    said = await desk.write("pending")
    assert 'note {"text":"milk"} (low risk). Reply YES ' in said
    code = CODE.search(said)
    assert code is not None
    assert await desk.write(f"{word} {code[1][:3]} {code[1][3:]}") == f"{state.capitalize()}: Note: milk"
    assert await desk.state(approval) == (state, ["sms"])
    (told_of,) = await desk.agency.of("approval.decided")
    assert (told_of["by"], told_of["device_id"], told_of["verified"]) == (desk.agency.user_id, None, "sms")


async def test_the_record_says_that_it_was_weak_and_that_nothing_was_signed(desk: Desk) -> None:
    approval = await desk.ask()
    await desk.write(f"YES {await desk.code()}")
    (made,) = desk.agency.audit.of(AuditEvent.APPROVAL_CODE_MADE)
    (decided,) = desk.agency.audit.of(AuditEvent.APPROVAL_DECIDED)
    assert made["action_sha256"] == decided["action_sha256"] == approval["action_sha256"]
    assert (decided["weak"], decided["verified"], decided["message"]) == (True, "sms", "SM2")
    assert decided["phone_number"] == ADA.e164
    assert "signature" not in decided


async def test_the_step_of_a_persons_rules_carries_a_code_where_content_may_leave(desk: Desk) -> None:
    house = desk.house
    house.allows_content = True
    rules = replace(DEFAULT, steps=(Step(Channel.SMS, 0, Priority.NORMAL),), shows_content=True)
    await house.use(rules)
    approval = await desk.ask()
    await house.after(timedelta(seconds=10))
    await desk._texts.look()
    (sms,) = desk.post.provider.sent
    code = CODE.search(sms.text)
    assert code is not None, sms.text
    assert 'note {"text":"milk"}' in sms.text
    assert await desk.write(f"YES {code[1]}") == "Approved: Note: milk"
    assert await desk.state(approval) == ("approved", ["sms"])


async def test_where_content_stays_here_there_is_no_code_for_what_nobody_can_read(desk: Desk) -> None:
    await desk.house.use(replace(DEFAULT, steps=(Step(Channel.SMS, 0, Priority.NORMAL),)))
    await desk.ask()
    await desk.house.after(timedelta(seconds=10))
    await desk._texts.look()
    (sms,) = desk.post.provider.sent
    assert "YES" not in sms.text
    assert "milk" not in sms.text


@pytest.mark.parametrize("desk", [False], indirect=True, ids=["off"])
async def test_it_is_off_unless_the_settings_say_so(desk: Desk) -> None:
    approval = await desk.ask()
    assert "YES" not in await desk.write("PENDING")
    assert await desk.write("YES 123456") == "Nothing is approved by SMS here. Open the app."
    assert await desk.state(approval) == ("pending", [])


# -- what is never decided so


@pytest.mark.parametrize("risk", [Risk.MEDIUM, Risk.HIGH])
async def test_what_is_more_than_low_has_no_code(desk: Desk, risk: Risk) -> None:
    await desk.ask(risk=risk)
    assert not CODE.search(await desk.write("PENDING"))


@pytest.mark.parametrize(
    "policy",
    [
        {"risk": "medium"},
        {"deciders": ["role:owner"], "two_person": True},
        {"deciders": ["role:owner", "role:admin"], "quorum": 2},
        {"deciders": ["role:admin"]},
    ],
    ids=["raised", "two persons", "quorum", "others"],
)
async def test_what_a_policy_puts_to_others_or_several_has_no_code(desk: Desk, policy: dict[str, Any]) -> None:
    desk.agency.policy = ApprovalsSettings.model_validate({"policies": [policy]})
    await desk.ask()
    assert not CODE.search(await desk.write("PENDING"))


@pytest.mark.parametrize(
    ("args_json", "tool"),
    [
        ('{"text":"' + "m" * 140 + '"}', "note"),
        ('{"text":"mi\u202elk"}', "note"),
        ('{"text":"two  blanks"}', "note"),
        ('{"text":"milk"}', "outside:note"),
    ],
    ids=["long", "turned round", "blanks", "an agent elsewhere"],
)
async def test_what_an_sms_cannot_say_as_a_whole_has_no_code(desk: Desk, args_json: str, tool: str) -> None:
    await desk.ask(args_json, tool)
    assert not CODE.search(await desk.write("PENDING"))


async def test_terms_that_became_stricter_for_what_was_asked_are_kept_when_the_code_comes_back(desk: Desk) -> None:
    """A code stands for nothing by itself: what is decided is judged again when it comes back."""
    approval = await desk.ask()
    code = await desk.code()
    raised = "UPDATE approvals SET risk = 'medium' WHERE approval_id = :of"
    from sqlalchemy import text

    await desk.agency.database.write(lambda tx: tx.run(text(raised), {"of": approval["approval_id"]}))
    assert await desk.write(f"YES {code}") == "This is not decided by SMS. Open the app."
    assert await desk.state(approval) == ("pending", [])


async def test_it_makes_no_rule_and_edits_nothing(desk: Desk) -> None:
    approval = await desk.ask()
    await desk.write(f"YES {await desk.code()} always")
    assert await desk.state(approval) == ("pending", [])
    await desk.write(f"YES {await desk.code()}")
    view = await desk.agency.database.read(
        lambda tx: desk.agency.approvals.get(tx, desk.agency.user_id, approval["approval_id"])
    )
    assert view.approval.edited_action is None
    assert desk.agency.audit.of(AuditEvent.APPROVAL_RULE_MADE) == []


# -- who has the code is not enough


async def test_a_code_that_was_forwarded_is_of_no_use_at_another_number(desk: Desk) -> None:
    approval = await desk.ask()
    code = await desk.code()
    bob = await person(desk.agency, "bob", Role.OWNER)
    await desk.confirm(BOB.e164, bob.principal.user_id)
    assert (await desk.write(f"YES {code}", BOB.e164)).startswith(WRONG)
    assert await desk.write(f"YES {code}", "+14155550177") == "", "nobody has confirmed that number"
    assert await desk.state(approval) == ("pending", [])


async def test_a_code_is_bound_to_the_number_it_went_to_also_for_the_same_person(desk: Desk) -> None:
    approval = await desk.ask()
    code = await desk.code()
    await desk.confirm(BOB.e164, desk.agency.user_id)
    assert (await desk.write(f"YES {code}", BOB.e164)).startswith(WRONG)
    assert await desk.state(approval) == ("pending", [])


async def test_a_number_that_moved_to_another_person_takes_no_code_along(desk: Desk) -> None:
    approval = await desk.ask()
    code = await desk.code()
    bob = await person(desk.agency, "bob", Role.OWNER)
    await desk.confirm(ADA.e164, bob.principal.user_id)
    assert (await desk.write(f"YES {code}")).startswith(WRONG)
    await desk.confirm(ADA.e164, desk.agency.user_id)
    assert (await desk.write(f"YES {code}")).startswith(WRONG), "nor back again"
    assert await desk.state(approval) == ("pending", [])


@pytest.mark.parametrize("role", [None, Role.VIEWER], ids=["disabled", "viewer"])
async def test_whoever_may_do_nothing_any_more_decides_nothing(desk: Desk, role: Role | None) -> None:
    approval = await desk.ask()
    code = await desk.code()
    await desk.agency.database.write(lambda tx: _change(tx, desk, role))
    assert await desk.write(f"YES {code}") == ""
    assert await desk.state(approval) == ("pending", [])


async def test_whoever_is_none_of_the_deciders_any_more_decides_nothing(desk: Desk) -> None:
    desk.agency.policy = ApprovalsSettings.model_validate({"policies": [{"deciders": ["role:owner"]}]})
    approval = await desk.ask()
    code = await desk.code()
    await desk.agency.database.write(lambda tx: _change(tx, desk, Role.MEMBER))
    assert "for others to decide" in await desk.write(f"YES {code}")
    assert await desk.state(approval) == ("pending", [])


def _change(tx: Any, desk: Desk, role: Role | None) -> None:
    user = desk.agency.accounts.get_user(tx, desk.agency.user_id)
    accounts_store.change_user(tx, user.disabled(desk.clock.now_ms()) if role is None else user.given(role))


# -- when


async def test_a_code_is_used_once(desk: Desk) -> None:
    await desk.ask()
    code = await desk.code()
    await desk.write(f"YES {code}")
    assert await desk.write(f"NO {code}") == "This code was used. PENDING shows what waits."
    assert len(await desk.agency.of("approval.decided")) == 1


async def test_a_code_is_over_after_a_quarter_of_an_hour(desk: Desk) -> None:
    approval = await desk.ask()
    code = await desk.code()
    desk.clock.advance((15 * MINUTE).total_seconds())
    assert (await desk.write(f"YES {code}")).startswith("This code does not hold any more.")
    assert await desk.state(approval) == ("pending", [])


async def test_a_code_is_over_with_its_approval(desk: Desk) -> None:
    await desk.ask(life_ms=120_000)
    code = await desk.code()
    desk.clock.advance(120)
    assert (await desk.write(f"YES {code}")).startswith("This code does not hold any more.")
    await desk.ask(life_ms=59_000)
    assert not CODE.search(await desk.write("PENDING")), "what ends in a minute is not worth a message"


async def test_a_newer_code_takes_the_place_of_the_one_before(desk: Desk) -> None:
    approval = await desk.ask()
    first, second = await desk.code(), await desk.code()
    assert first != second
    assert (await desk.write(f"YES {first}")).startswith("This code does not hold any more.")
    assert await desk.write(f"YES {second}") == "Approved: Note: milk"
    assert await desk.state(approval) == ("approved", ["sms"])


async def test_the_first_answer_counts_also_when_the_sms_is_the_second(desk: Desk, phone: Pocket) -> None:
    approval = await desk.ask()
    code = await desk.code()
    await desk.agency.decide(phone, approval, "deny")
    assert await desk.write(f"YES {code}") == "This was decided already; the first answer counts."
    assert await desk.state(approval) == ("denied", ["key"])
    (late,) = desk.agency.audit.of(AuditEvent.APPROVAL_ALREADY_DECIDED)
    assert late["code"] == "approval_already_decided"


async def test_of_two_answers_at_once_one_counts(desk: Desk) -> None:
    approval = await desk.ask()
    code, now_ms = await desk.code(), desk.clock.now_ms()
    yes = await desk.lines.prepare(ADA.e164, f"YES {code}")
    no = await desk.lines.prepare(ADA.e164, f"NO {code}")
    await asyncio.gather(
        *(
            desk.agency.database.write(lambda tx, do=do, key=key: do(tx, key, now_ms))
            for key, do in (("SMa", yes), ("SMb", no))
        )
    )
    state, known_by = await desk.state(approval)
    assert (state in ("approved", "denied"), known_by) == (True, ["sms"])
    assert len(await desk.agency.of("approval.decided")) == 1


# -- guesses


async def test_five_wrong_codes_end_it_for_a_day(desk: Desk) -> None:
    approval = await desk.ask()
    code = await desk.code()
    wrong = desk.wrong(code)
    said = await desk.write("\n".join([f"YES {wrong}"] * 6))
    assert said.splitlines()[:5] == [*(f"{WRONG} Wrong ones left: {left}." for left in (4, 3, 2, 1)),
        "That is no code of yours, once too often. Open the app."]  # fmt: skip
    assert (await desk.write(f"YES {code}")).startswith("Too many wrong codes.")
    assert not CODE.search(await desk.write("PENDING"))
    assert await desk.state(approval) == ("pending", [])
    refused = desk.agency.audit.of(AuditEvent.APPROVAL_CODE_REFUSED)
    assert [one["reason"] for one in refused] == ["wrong"] * 4 + ["wrong too often"]
    desk.clock.advance(timedelta(days=1).total_seconds())
    await desk.ask()
    assert await desk.write(f"YES {await desk.code()}") == "Approved: Note: milk"


async def test_what_is_stored_of_a_code_does_not_tell_it(desk: Desk) -> None:
    approval = await desk.ask()
    code = await desk.code()
    place = await desk.agency.database.read(lambda tx: desk.places.confirmed_at(tx, ADA.e164))
    assert place is not None
    (stored,) = await desk.agency.database.read(
        lambda tx: code_store.codes_at(tx, desk.agency.user_id, place.place_id, 9)
    )
    assert (stored.approval_id, stored.action_sha256) == (approval["approval_id"], approval["action_sha256"])
    assert code not in repr(stored)


async def test_whoever_leaves_takes_their_codes_along(desk: Desk) -> None:
    await desk.ask()
    await desk.code()
    place = (await desk.agency.database.read(lambda tx: place_store.places_of(tx, desk.agency.user_id)))[0]
    by = Principal(desk.agency.user_id, ALL_SCOPES)
    await desk.agency.database.write(lambda tx: desk.codes.end_all(tx, by, desk.agency.user_id, 0))
    left = await desk.agency.database.read(lambda tx: code_store.codes_at(tx, desk.agency.user_id, place.place_id, 9))
    assert left == []


async def test_what_others_are_asked_is_theirs(desk: Desk) -> None:
    """Somebody who only sees an approval gets no code; who is asked gets one of their own."""
    bob = await person(desk.agency, "bob", Role.OWNER)
    await desk.confirm(BOB.e164, bob.principal.user_id)
    desk.agency.policy = ApprovalsSettings.model_validate({"policies": [{"deciders": ["bob"]}]})
    approval = await desk.ask()
    assert not CODE.search(await desk.write("PENDING"))
    code = await desk.code(BOB.e164)
    assert (await desk.write(f"YES {code}")).startswith(WRONG)
    assert await desk.write(f"YES {code}", BOB.e164) == "Approved: Note: milk"
    assert await desk.state(approval) == ("approved", ["sms"])
    assert [one["by"] for one in await told(desk.agency, bob, "approval.decided")] == [bob.principal.user_id]
