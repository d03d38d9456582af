"""Enrolment keys on a real database: what they make, how often, for whom, and when no more."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from entobot.accounts.people import People
from entobot.audit.events import AuditEvent, Outcome
from entobot.core.errors import Code, Problem
from entobot.core.permissions import ROLE_SCOPES, Role, Scope
from entobot.core.principal import Principal
from entobot.core.topic_limits import clean_limits
from entobot.devices.api_keys import ApiKeys, write_key
from entobot.devices.model import ConnectionRefused, Refusal, Status
from entobot.enrolment.model import ENROLMENT_KEY, REPEATS_FOR_MS, State
from entobot.enrolment.service import Asking, Enrolled, Enrolments, Wanted
from tests.devices.conftest import File, House
from tests.support.time import ManualClock, SeededEntropy

NONCE = "n" * 43


class Greenhouse:
    """A house whose owner lets boards in."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.enrolments = Enrolments(
            database=house.database,
            clock=house.clock,
            ids=house.ids,
            audit=house.audit,
            accounts=house.accounts,
            devices=house.devices,
            keys=ApiKeys(b"e" * 32, house.entropy, ENROLMENT_KEY),
            nonce_key=b"e" * 32,
        )
        self.people = People(
            database=house.database,
            clock=house.clock,
            ids=house.ids,
            audit=house.audit,
            accounts=house.accounts,
            guard=house.devices.guard,
        )
        self.people.on_leaving.append(self.enrolments.end_all)
        house.devices.on_end.append(self.enrolments.end_of_device)

    async def owner(self) -> Principal:
        return await self.house.devices.local_owner()

    async def key(self, maker: Principal | None = None, **wanted: object) -> tuple[str, str]:
        """The id of a new key, and the key."""
        made = await self.enrolments.create(maker or await self.owner(), Wanted("Boards", **wanted))  # pyright: ignore[reportArgumentType]  the names are Wanted's
        return made.key.key_id, made.secret

    async def enrol(self, secret: str, nonce: str = NONCE, **said: str) -> Enrolled:
        return await self.enrolments.enrol(secret, Asking(nonce, **said), "192.0.2.7")

    async def refused(self, secret: str, nonce: str = NONCE) -> tuple[Code, str]:
        with pytest.raises(Problem) as caught:
            await self.enrol(secret, nonce)
        return caught.value.code, caught.value.detail

    async def lets_in(self, api_key: str) -> Principal | Refusal:
        try:
            return (await self.house.devices.authenticate_key_connection(api_key, "192.0.2.7")).principal
        except ConnectionRefused as refusal:
            return refusal.reason


@pytest.fixture
async def green(tmp_path: Path, clock: ManualClock, entropy: SeededEntropy) -> AsyncIterator[Greenhouse]:
    house = House(tmp_path, clock, entropy, (File(), File()))
    await house.database.start()
    await house.owner()
    yield Greenhouse(house)
    await house.database.stop()


async def test_a_board_becomes_a_device_of_the_makers_with_a_key_of_its_own_and_no_scope(green: Greenhouse) -> None:
    key_id, secret = await green.key(device_type="Thermometer", tags=("b", "a", "b"), key_life_s=3600)
    made = await green.enrol(secret, hardware_id="a4:cf:12")
    owner = await green.owner()
    assert (made.device.device_type, made.device.tags, made.device.user_id) == (
        "thermometer",
        ("a", "b"),
        owner.user_id,
    )
    assert made.expires_at_ms == green.house.now_ms + 3_600_000
    principal = await green.lets_in(made.secret)
    assert isinstance(principal, Principal)
    assert (principal.device_id, principal.scopes) == (made.device.device_id, frozenset())
    key, (row,) = await green.enrolments.find(owner, key_id)
    assert (key.state(green.house.now_ms), key.uses) == (State.SPENT, 1)
    assert (row.enrolment.device_id, row.enrolment.hardware_id) == (made.device.device_id, "a4:cf:12")
    assert green.house.audit.events() == [AuditEvent.ENROLMENT_KEY_CREATED, AuditEvent.DEVICE_ENROLLED]


async def test_a_key_that_limits_to_topics_limits_every_key_that_it_makes(green: Greenhouse) -> None:
    limits = clean_limits(["telemetry/#"], ["command"])
    _, secret = await green.key(topics=limits)
    owner, held = await green.owner(), green.house.devices.machines.held
    lost = await green.enrol(secret)
    made = await green.enrol(secret)
    assert (made.device.device_id, made.is_repeat) == (lost.device.device_id, True)
    assert [key.topics for key in (await held(owner, made.device.device_id)).keys] == [limits]
    maker = await green.house.devices.create_api_key(
        owner, "Script", scopes=frozenset({Scope.DEVICES_MANAGE}), topics=limits
    )
    principal = await green.lets_in(maker.secret)
    assert isinstance(principal, Principal)
    with pytest.raises(Problem) as caught:
        await green.key(principal)
    assert caught.value.code is Code.FORBIDDEN


async def test_of_many_boards_at_once_no_more_come_in_than_the_key_allows(green: Greenhouse) -> None:
    _, secret = await green.key(max_uses=5)
    asked = (green.enrol(secret, f"{n:043d}") for n in range(20))
    found = await asyncio.gather(*asked, return_exceptions=True)
    made = [one for one in found if isinstance(one, Enrolled)]
    assert len({one.device.device_id for one in made}) == len(made) == 5
    assert {one.code for one in found if isinstance(one, Problem)} == {Code.UNAUTHENTICATED}
    assert await green.house.count("devices") == 5


async def test_a_board_that_lost_the_answer_gets_the_same_device_with_another_key(green: Greenhouse) -> None:
    _, secret = await green.key(max_uses=1)
    lost, again = await green.enrol(secret), await green.enrol(secret)
    assert (again.device.device_id, again.is_repeat) == (lost.device.device_id, True)
    assert await green.lets_in(lost.secret) is Refusal.BAD_CREDENTIALS
    assert isinstance(await green.lets_in(again.secret), Principal)
    assert (await green.refused(secret))[0] is Code.ENROLMENT_USED
    assert isinstance(await green.lets_in(again.secret), Principal)
    assert await green.house.count("devices") == 1


@pytest.mark.parametrize("change", ["revoked", "limited", "rotated"])
async def test_asking_again_undoes_nothing_that_was_done_to_the_key(green: Greenhouse, change: str) -> None:
    """A stranger with the enrolment key got a key that was neither revoked nor limited, and the one revoked was gone."""
    _, secret = await green.key()
    owner, first = await green.owner(), await green.enrol(secret)
    machines, device_id = green.house.devices.machines, first.device.device_id
    (key,) = (await machines.held(owner, device_id)).keys
    if change == "limited":
        limits = clean_limits(["status"], None)
        await machines.limit(owner, device_id, key.key_id, limits)
        await green.enrol(secret)
        assert [one.topics for one in (await machines.held(owner, device_id)).keys] == [limits]
        return
    if change == "revoked":
        await machines.revoke(owner, device_id, key.key_id)
    else:
        await machines.rotate(owner, device_id, overlap_s=60)
    assert (await green.refused(secret))[0] is Code.ENROLMENT_USED
    assert key.key_id in [one.key_id for one in (await machines.held(owner, device_id)).keys]


async def test_of_one_nonce_at_once_one_device_comes(green: Greenhouse) -> None:
    _, secret = await green.key(max_uses=9)
    made = await asyncio.gather(*(green.enrol(secret) for _ in range(6)))
    assert len({one.device.device_id for one in made}) == 1
    found = [await green.lets_in(one.secret) for one in made]
    assert sum(isinstance(one, Principal) for one in found) == 1


async def test_a_nonce_is_good_for_an_hour_and_for_its_own_key_only(green: Greenhouse) -> None:
    _, one = await green.key()
    _, other = await green.key()
    first = await green.enrol(one)
    assert (await green.enrol(other)).device.device_id != first.device.device_id
    green.house.clock.advance(REPEATS_FOR_MS / 1000)
    assert (await green.refused(one))[0] is Code.ENROLMENT_USED
    for nonce in ("", "a4:cf:12:05:9e:01", "x" * 44):
        assert (await green.refused(one, nonce))[0] is Code.INVALID


async def test_a_key_that_is_over_says_why_to_whoever_has_it_and_nothing_to_others(green: Greenhouse) -> None:
    _, spent = await green.key()
    await green.enrol(spent)
    _, expired = await green.key(expires_in_s=60)
    revoked_id, revoked = await green.key()
    await green.enrolments.revoke(await green.owner(), revoked_id)
    green.house.clock.advance(60)
    for secret, word in ((spent, "as many devices"), (expired, "expired"), (revoked, "revoked")):
        for _ in range(2):
            code, why = await green.refused(secret, "m" * 43)
            assert (code, word in why) == (Code.UNAUTHENTICATED, True)
    denied = [one for one in green.house.audit.heard if one[:2] == (AuditEvent.ENROLMENT_REFUSED, Outcome.DENIED)]
    assert len(denied) == 3  # once a minute for each
    forged = write_key(revoked[8:34], "A" * 43, ENROLMENT_KEY)
    for secret in (
        forged,
        write_key("0" * 26, "A" * 43, ENROLMENT_KEY),
        write_key("0" * 26, "A" * 43),
        "ent_enr_x",
        "",
    ):
        code, why = await green.refused(secret)
        assert (code, "revoked" in why) == (Code.UNAUTHENTICATED, False)
    assert len(green.house.audit.heard) == len(denied) + 5


async def test_a_key_gives_no_more_than_its_maker_has_and_ends_with_them(green: Greenhouse) -> None:
    owner = await green.owner()
    admin = await green.people.add(owner, login="bob", name="Bob", role=Role.OPERATOR)
    bob = Principal(admin.user_id, ROLE_SCOPES[Role.OPERATOR])
    for maker, scopes, code in (
        (Principal(admin.user_id, frozenset({Scope.CHAT})), frozenset[Scope](), Code.FORBIDDEN),
        (Principal(admin.user_id, frozenset({Scope.DEVICES_MANAGE})), frozenset({Scope.CHAT}), Code.FORBIDDEN),
        (owner, frozenset({Scope.APPROVE}), Code.INVALID),
    ):
        with pytest.raises(Problem) as caught:
            await green.key(maker, scopes=scopes)
        assert caught.value.code is code
    _, secret = await green.key(bob, max_uses=9, scopes=frozenset({Scope.CHAT, Scope.AUDIT}))
    assert (await green.enrol(secret)).device.scopes == {Scope.CHAT, Scope.AUDIT}
    await green.people.change(owner, admin.user_id, role=Role.MEMBER)
    assert (await green.refused(secret, "m" * 43))[0] is Code.UNAUTHENTICATED
    await green.people.change(owner, admin.user_id, role=Role.OPERATOR)
    await green.people.disable(owner, admin.user_id)
    await green.people.enable(owner, admin.user_id)
    assert "revoked" in (await green.refused(secret, "m" * 43))[1]


async def test_a_key_that_a_stolen_device_made_does_not_outlive_it(green: Greenhouse) -> None:
    devices, owner = green.house.devices, await green.owner()
    stolen = await devices.create_api_key(
        owner, "Script", scopes=frozenset({Scope.DEVICES_MANAGE, Scope.CHAT, Scope.AUDIT})
    )
    thief = await green.lets_in(stolen.secret)
    assert isinstance(thief, Principal)
    key_id, secret = await green.key(thief, max_uses=9, scopes=frozenset({Scope.CHAT}))
    mine_id, _ = await green.key()
    await green.enrol(secret)
    await devices.suspend(owner, stolen.device.device_id)
    for nonce in (NONCE, "m" * 43):
        assert (await green.refused(secret, nonce))[0] is Code.UNAUTHENTICATED
    await devices.reactivate(owner, stolen.device.device_id)
    assert await green.enrol(secret, "m" * 43)
    await devices.revoke(owner, stolen.device.device_id)
    assert (await green.refused(secret, "o" * 43))[0] is Code.UNAUTHENTICATED
    states = {one.key_id: one.state(green.house.now_ms) for one in await green.enrolments.list_keys(owner)}
    assert states == {key_id: State.REVOKED, mine_id: State.OPEN}, "and that is how they are shown"


async def test_a_stolen_key_is_revoked_with_what_it_made_and_a_good_one_without(green: Greenhouse) -> None:
    stolen_id, stolen = await green.key(max_uses=9)
    good_id, good = await green.key(max_uses=9)
    of_thief = [await green.enrol(stolen, f"{n:043d}") for n in range(3)]
    mine = await green.enrol(good)
    owner = await green.owner()
    await green.enrolments.revoke(owner, stolen_id, with_devices=True)
    await green.enrolments.revoke(owner, good_id)
    assert {(await green.house.device(one.device.device_id)).status for one in of_thief} == {Status.REVOKED}
    assert [await green.lets_in(one.secret) for one in of_thief] == [Refusal.REVOKED] * 3
    assert isinstance(await green.lets_in(mine.secret), Principal)
    assert (await green.refused(stolen))[0] is Code.UNAUTHENTICATED


async def test_nothing_secret_is_stored(green: Greenhouse) -> None:
    _, secret = await green.key()
    made = await green.enrol(secret)
    await green.house.database.stop()
    stored = b"".join(path.read_bytes() for path in green.house.folder.iterdir() if path.is_file())
    assert made.device.device_id.encode() in stored
    for text in (secret[35:], made.secret[35:], NONCE):
        assert text.encode() not in stored
    await green.house.database.start()
