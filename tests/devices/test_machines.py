"""Several API keys of one device: rotated with an overlap, revoked one by one."""

import pytest

from entobot.accounts.people import People
from entobot.audit.events import AuditEvent
from entobot.core.errors import Code, Problem
from entobot.core.permissions import ROLE_SCOPES, Role, Scope
from entobot.core.principal import Principal
from entobot.core.topic_limits import NO_LIMITS, NOTHING, TopicLimits, clean_limits
from entobot.devices.api_keys import parse_key
from entobot.devices.key_desk import CreatedKey
from entobot.devices.machine_limits import KNOWN_S, KnownLimits, limits_of
from entobot.devices.machines import MAX_GOOD_KEYS
from entobot.devices.model import ConnectionRefused, Refusal, Status
from tests.devices.conftest import House

ON_EVERY_STORE = True
ADDRESS = "192.0.2.7"


async def make(house: House, expires_in_s: int | None = None) -> CreatedKey:
    return await house.devices.create_api_key(await house.devices.local_owner(), "Board", expires_in_s=expires_in_s)


async def rotate(house: House, made: CreatedKey, overlap_s: int, expires_in_s: int | None = None) -> CreatedKey:
    owner = await house.devices.local_owner()
    return await house.devices.machines.rotate(
        owner, made.device.device_id, overlap_s=overlap_s, expires_in_s=expires_in_s
    )


async def enter(house: House, key: str) -> Principal | Refusal:
    try:
        return (await house.devices.authenticate_key_connection(key, ADDRESS)).principal
    except ConnectionRefused as refused:
        return refused.reason


async def refused(house: House, principal: Principal) -> Code | None:
    try:
        await house.database.read(lambda tx: house.devices.guard(tx, principal))
    except Problem as problem:
        return problem.code
    return None


async def test_after_a_rotation_both_keys_hold_until_the_overlap_is_over(house: House) -> None:
    old = await make(house)
    new = await rotate(house, old, overlap_s=60)
    before, after = await enter(house, old.secret), await enter(house, new.secret)
    assert isinstance(before, Principal)
    assert isinstance(after, Principal)
    assert (before.device_id, after.expires_at_ms) == (after.device_id, None)
    assert before.expires_at_ms == house.now_ms + 60_000
    house.clock.advance(60)
    assert await enter(house, old.secret) is Refusal.EXPIRED
    assert [await refused(house, one) for one in (before, after)] == [Code.UNAUTHENTICATED, None]
    assert house.rung == [old.device.device_id]


async def test_who_came_in_before_the_rotation_goes_with_the_old_key(house: House) -> None:
    """Its principal says that the key has no end: what the row says counts."""
    old = await make(house)
    before = await enter(house, old.secret)
    assert isinstance(before, Principal)
    await rotate(house, old, overlap_s=60)
    assert await refused(house, before) is None
    house.clock.advance(60)
    assert await refused(house, before) is Code.UNAUTHENTICATED
    assert await house.database.read(lambda tx: house.devices.machines.has_ended(tx, before))


async def test_one_key_is_revoked_and_the_other_stays(house: House) -> None:
    old = await make(house)
    house.clock.advance(1)
    new = await rotate(house, old, overlap_s=60)
    owner, device_id = await house.devices.local_owner(), old.device.device_id
    entered = await enter(house, old.secret)
    assert isinstance(entered, Principal)
    for _ in range(2):
        await house.devices.machines.revoke(owner, device_id, parse_key(old.secret))
    assert house.rung == [device_id] * 2, "by the rotation, and by the first of the two"
    assert await enter(house, old.secret) is Refusal.REVOKED
    assert isinstance(await enter(house, new.secret), Principal)
    assert await refused(house, entered) is Code.UNAUTHENTICATED
    assert house.audit.events()[-2:] == [AuditEvent.API_KEY_ROTATED, AuditEvent.API_KEY_REVOKED]
    held = await house.devices.machines.held(owner, device_id)
    assert [(key.key_id, key.is_good(held.now_ms)) for key in held.keys] == [
        (parse_key(new.secret), True),
        (parse_key(old.secret), False),
    ]
    assert held.keys[0].last_used_at_ms == house.now_ms
    stranger = await make(house)
    with pytest.raises(Problem) as caught:
        await house.devices.machines.revoke(owner, device_id, parse_key(stranger.secret))
    assert caught.value.code is Code.NOT_FOUND


async def test_a_rotated_key_lives_as_long_as_the_one_before_was_made_for(house: House) -> None:
    made = await make(house, expires_in_s=3600)
    house.clock.advance(3000)
    again = await rotate(house, made, overlap_s=86_400)
    assert again.expires_at_ms == house.now_ms + 3_600_000
    house.clock.advance(600)
    assert await enter(house, made.secret) is Refusal.EXPIRED  # no overlap makes it longer
    assert (await rotate(house, made, overlap_s=0, expires_in_s=60)).expires_at_ms == house.now_ms + 60_000
    assert await enter(house, again.secret) is Refusal.EXPIRED


async def limit(house: House, made: CreatedKey, key: str, topics: TopicLimits) -> None:
    owner = await house.devices.local_owner()
    await house.devices.machines.limit(owner, made.device.device_id, key, topics)


async def test_a_key_is_limited_to_topics_and_the_next_one_as_well(house: House) -> None:
    made = await make(house)
    key_id, narrow = parse_key(made.secret), clean_limits(["telemetry/#"], [])
    for _ in range(2):
        await limit(house, made, key_id, narrow)
    assert house.rung == [made.device.device_id], "once, as it was changed once"
    assert house.audit.events()[-1] is AuditEvent.API_KEY_LIMITED
    assert await house.database.read(lambda tx: limits_of(tx, key_id)) == narrow
    known = KnownLimits(house.clock)
    assert await house.database.read(lambda tx: known.find(tx, key_id)) == narrow
    house.clock.advance(1)
    new = await rotate(house, made, overlap_s=0)
    assert new.topics == narrow
    await limit(house, made, parse_key(new.secret), NO_LIMITS)
    assert (await rotate(house, made, overlap_s=60)).topics == NO_LIMITS
    assert await house.database.read(lambda tx: known.find(tx, key_id)) == narrow
    assert await house.database.read(lambda tx: known.find(tx, "key_" + "0" * 26)) == NOTHING
    await limit(house, made, key_id, NO_LIMITS)
    assert await house.database.read(lambda tx: known.find(tx, key_id)) == narrow
    house.clock.advance(KNOWN_S)
    assert await house.database.read(lambda tx: known.find(tx, key_id)) == NO_LIMITS, "without a bell, soon"
    await limit(house, made, key_id, narrow)
    assert await house.database.read(lambda tx: known.find(tx, key_id)) == NO_LIMITS
    known.forget()
    assert await house.database.read(lambda tx: known.find(tx, key_id)) == narrow, "with one, at once"


async def test_a_check_says_what_would_be_refused_and_changes_nothing(house: House) -> None:
    made, owner, machines = await make(house), await house.devices.local_owner(), house.devices.machines
    device_id, key_id = made.device.device_id, parse_key(made.secret)
    does = [("subscribe", f"devices/{device_id}/#"), ("publish", f"devices/{device_id}/telemetry/x")]
    does += [("publish", f"devices/{device_id}/event"), ("subscribe", "devices/dev_other/status")]
    machines.topics_of = lambda _, one, count: does[:count] if one == device_id else []

    async def outside(publish: list[str] | None, subscribe: list[str] | None) -> tuple[list[int], int]:
        found = await machines.check_limits(owner, device_id, key_id, clean_limits(publish, subscribe))
        return [does.index(one) for one in found.topics], found.looked_at

    assert await outside(None, None) == ([], 4)
    assert await outside(["telemetry/#"], ["command"]) == ([2, 3], 4), "of # something is left"
    assert await outside([], None) == ([1, 2], 4)
    assert await outside(None, []) == ([0, 3], 4)
    assert await house.database.read(lambda tx: limits_of(tx, key_id)) == NO_LIMITS
    assert AuditEvent.API_KEY_LIMITED not in house.audit.events()
    with pytest.raises(Problem) as caught:
        await machines.check_limits(owner, device_id, "key_" + "0" * 26, NO_LIMITS)
    assert caught.value.code is Code.NOT_FOUND


async def test_the_next_key_is_limited_as_the_newest_that_holds(house: House) -> None:
    made, narrow = await make(house), clean_limits(["telemetry/#"], None)
    await limit(house, made, parse_key(made.secret), narrow)
    house.clock.advance(1)
    new = await rotate(house, made, overlap_s=60)
    await limit(house, made, parse_key(new.secret), NO_LIMITS)
    owner = await house.devices.local_owner()
    await house.devices.machines.revoke(owner, made.device.device_id, parse_key(new.secret))
    assert (await rotate(house, made, overlap_s=60)).topics == narrow


async def test_whoever_is_limited_gives_out_no_keys(house: House) -> None:
    """Else a way around the limits would be to make another key."""
    owner = await house.devices.local_owner()
    made = await house.devices.create_api_key(
        owner, "Script", scopes=frozenset({Scope.DEVICES_MANAGE}), topics=clean_limits(["telemetry/#"], None)
    )
    narrow, device_id, key_id = await enter(house, made.secret), made.device.device_id, parse_key(made.secret)
    assert isinstance(narrow, Principal)
    machines = house.devices.machines
    for attempt in (
        lambda: house.devices.create_api_key(narrow, "Another"),
        lambda: machines.rotate(narrow, device_id),
        lambda: machines.limit(narrow, device_id, key_id, NO_LIMITS),
    ):
        with pytest.raises(Problem) as caught:
            await attempt()
        assert caught.value.code is Code.FORBIDDEN
        assert key_id in caught.value.detail
    with pytest.raises(Problem) as caught:
        await machines.limit(owner, device_id, "key_" + "0" * 26, NO_LIMITS)
    assert caught.value.code is Code.NOT_FOUND


async def test_a_key_that_is_limited_does_not_end_its_board_for_the_keys_that_are_not(house: House) -> None:
    made = await make(house)
    await limit(house, made, parse_key(made.secret), clean_limits(["telemetry/#"], []))
    narrow, device_id = await enter(house, made.secret), made.device.device_id
    assert isinstance(narrow, Principal)
    for attempt in (
        lambda: house.devices.revoke(narrow, device_id),
        lambda: house.devices.rename(narrow, device_id, "Mine now"),
    ):
        with pytest.raises(Problem) as caught:
            await attempt()
        assert caught.value.code is Code.FORBIDDEN
    await limit(house, made, parse_key(made.secret), NO_LIMITS)
    assert (await house.devices.revoke(narrow, device_id)).status is Status.REVOKED


async def test_rotating_a_key_gives_nobody_what_they_do_not_hold(house: House) -> None:
    owner = await house.devices.local_owner()
    wide = await house.devices.create_api_key(
        owner, "Reporter", scopes=frozenset({Scope.AUDIT, Scope.CHAT, Scope.DEVICES_MANAGE})
    )
    script = await enter(
        house, (await house.devices.create_api_key(owner, "Script", scopes=frozenset({Scope.DEVICES_MANAGE}))).secret
    )
    assert isinstance(script, Principal)
    with pytest.raises(Problem) as caught:
        await house.devices.machines.rotate(script, wide.device.device_id, overlap_s=0)
    assert caught.value.code is Code.FORBIDDEN
    assert "audit chat" in caught.value.detail
    itself = await enter(house, wide.secret)
    assert isinstance(itself, Principal), "and the key that it had goes on"
    assert isinstance(await enter(house, (await rotate(house, wide, 60)).secret), Principal)
    await house.devices.machines.rotate(itself, wide.device.device_id, overlap_s=60)


async def test_rotating_a_key_makes_nobody_another_person(house: House) -> None:
    owner = await house.devices.local_owner()
    people = People(
        database=house.database,
        clock=house.clock,
        ids=house.ids,
        audit=house.audit,
        accounts=house.accounts,
        guard=house.devices.guard,
    )
    eve, bob = [
        Principal(
            (await people.add(owner, login=name, name=name, role=Role.OPERATOR)).user_id, ROLE_SCOPES[Role.OPERATOR]
        )
        for name in ("eve", "bob")
    ]
    bobs = await house.devices.create_api_key(bob, "Assistant", scopes=frozenset({Scope.CHAT}))
    with pytest.raises(Problem) as caught:
        await house.devices.machines.rotate(eve, bobs.device.device_id)
    assert caught.value.code is Code.FORBIDDEN
    assert str(Scope.USERS_MANAGE) in caught.value.detail
    await house.devices.machines.rotate(bob, bobs.device.device_id)
    await house.devices.machines.rotate(owner, bobs.device.device_id)
    await people.change(owner, bob.user_id, role=Role.VIEWER)
    assert await house.devices.machines.rotate(eve, bobs.device.device_id), "it opens nothing but its topics now"


async def test_what_cannot_be_rotated_says_so(house: House) -> None:
    owner = await house.devices.local_owner()
    made = await make(house)
    for _ in range(MAX_GOOD_KEYS - 1):
        await rotate(house, made, overlap_s=60)
    cases = [(owner, made.device.device_id, Code.QUOTA_EXCEEDED)]
    _, phone = await house.pair()
    cases.append((owner, phone, Code.INVALID))
    entered = await enter(house, made.secret)
    assert isinstance(entered, Principal)
    cases.append((entered, made.device.device_id, Code.FORBIDDEN))
    assert Scope.DEVICES_MANAGE not in entered.scopes
    for who, device_id, code in cases:
        with pytest.raises(Problem) as caught:
            await house.devices.machines.rotate(who, device_id)
        assert caught.value.code is code
    await house.devices.revoke(owner, made.device.device_id)
    with pytest.raises(Problem) as caught:
        await house.devices.machines.rotate(owner, made.device.device_id)
    assert caught.value.code is Code.INVALID
