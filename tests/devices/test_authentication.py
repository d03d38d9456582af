"""Who gets in with what, and who does not."""

import asyncio

import pytest

from entobot.audit.events import AuditEvent, Outcome
from entobot.core.clock import rfc3339
from entobot.core.errors import Code, NoLonger, Problem
from entobot.core.permissions import ALL_SCOPES, DEFAULT_DEVICE_SCOPES
from entobot.core.principal import Principal
from entobot.core.secrets import sha256_b64u
from entobot.devices.model import Authenticated, ConnectionRefused, Refusal
from entobot.web.authentication import Presented
from tests.devices.conftest import House
from tests.devices.phone import ORIGIN, Phone, show

PATH = "/api/v1/devices"


async def refused(house: House, presented: Presented) -> Problem:
    with pytest.raises(Problem) as caught:
        await house.devices.authenticate(presented)
    shown = (presented.authorization or "").partition(" ")[2]
    for secret in filter(None, (shown, *presented.proofs)):
        assert secret not in str(caught.value), "what was sent is not repeated"
    return caught.value


async def connect(house: House, phone: Phone, nonce: str = "n-1", shown_nonce: str = "n-1") -> Authenticated:
    proof = phone.proof("/ws", house.now_ms, nonce=shown_nonce, ath=sha256_b64u(phone.access_token))
    return await house.devices.authenticate_connection(phone.access_token, proof, nonce)


async def connection_refused(house: House, phone: Phone, shown_nonce: str = "n-1") -> Refusal:
    with pytest.raises(ConnectionRefused) as caught:
        await connect(house, phone, shown_nonce=shown_nonce)
    return caught.value.reason


# -- requests


async def test_a_device_with_a_token_and_a_fresh_proof_gets_in(house: House) -> None:
    phone, device_id = await house.pair()
    principal = await house.devices.authenticate(phone.ask(PATH, house.now_ms))
    device = await house.device(device_id)
    assert principal == Principal(
        device.user_id, DEFAULT_DEVICE_SCOPES, device_id, device.epoch, phone.key.thumbprint(), house.now_ms + 300_000
    )


async def test_a_request_that_goes_on_for_long_knows_when_its_token_ends(house: House) -> None:
    phone, _ = await house.pair()
    principal = await house.devices.authenticate(phone.ask(PATH, house.now_ms))
    assert principal.expires_at_ms == house.now_ms + 300_000, "an event stream ends with its token"


async def test_a_proof_is_good_for_one_request(house: House) -> None:
    phone, _ = await house.pair()
    presented = phone.ask(PATH, house.now_ms)
    await house.devices.authenticate(presented)
    assert (await refused(house, presented)).code is Code.PROOF_INVALID


async def test_of_fifty_requests_with_one_proof_exactly_one_passes(house: House) -> None:
    phone, _ = await house.pair()
    presented = phone.ask(PATH, house.now_ms)
    answers = await asyncio.gather(*(house.devices.authenticate(presented) for _ in range(50)), return_exceptions=True)
    assert sum(isinstance(answer, Principal) for answer in answers) == 1
    problems = [answer for answer in answers if isinstance(answer, Problem)]
    assert {problem.code for problem in problems} == {Code.PROOF_INVALID}
    assert len(problems) == 49


async def test_a_used_proof_stays_used_over_a_restart(house: House) -> None:
    phone, _ = await house.pair()
    presented = phone.ask(PATH, house.now_ms)
    await house.devices.authenticate(presented)
    again = await house.reopened()
    assert (await refused(again, presented)).code is Code.PROOF_INVALID
    assert await again.devices.authenticate(phone.ask(PATH, house.now_ms))
    await again.database.stop()


async def test_a_used_proof_is_remembered_longer_than_it_could_be_fresh(house: House) -> None:
    phone, _ = await house.pair()
    phone.skew_s = 60
    presented = phone.ask(PATH, house.now_ms)
    await house.devices.authenticate(presented)
    phone.skew_s = 0
    for _ in range(24):
        house.clock.advance(5)
        await house.devices.authenticate(phone.ask(PATH, house.now_ms))
        assert (await refused(house, presented)).code is Code.PROOF_INVALID
    house.clock.advance(5)
    assert (await refused(house, presented)).code is Code.PROOF_STALE


async def test_used_proofs_are_forgotten_once_stale(house: House) -> None:
    phone, _ = await house.pair()
    for _ in range(5):
        await house.devices.authenticate(phone.ask(PATH, house.now_ms))
    house.clock.advance(181)
    await house.devices.authenticate(phone.ask(PATH, house.now_ms))
    assert await house.count("device_proofs") == 1


async def test_two_keys_may_use_the_same_jti(house: House) -> None:
    for phone, _ in (await house.pair("one"), await house.pair("two")):
        proof = phone.proof(PATH, house.now_ms, ath=sha256_b64u(phone.access_token), jti="same")
        await house.devices.authenticate(show(PATH, f"DPoP {phone.access_token}", proof))


async def test_a_stale_proof_is_told_the_time(house: House) -> None:
    phone, _ = await house.pair()
    phone.skew_s = -3600
    problem = await refused(house, phone.ask(PATH, house.now_ms))
    assert problem.code is Code.PROOF_STALE
    assert problem.extra["server_time"] == rfc3339(house.now_ms)


async def test_a_bound_token_as_bearer_wants_a_proof_and_is_audited(house: House) -> None:
    phone, device_id = await house.pair()
    proof = phone.proof(PATH, house.now_ms, ath=sha256_b64u(phone.access_token))
    for presented in (
        show(PATH, f"Bearer {phone.access_token}"),
        show(PATH, f"bearer {phone.access_token}", proof),
        show(PATH, f"DPoP {phone.access_token}"),
    ):
        assert (await refused(house, presented)).code is Code.PROOF_REQUIRED
    assert house.audit.heard == [(AuditEvent.AUTH_REFUSED, Outcome.DENIED, device_id, {"reason": "no_proof"})]


async def test_a_thief_cannot_flood_the_audit_log_nor_silence_it(house: House) -> None:
    phone, _ = await house.pair()
    for _ in range(3):
        await refused(house, show(PATH, f"Bearer {phone.access_token}"))
        house.clock.advance(60)
    assert house.audit.events() == [AuditEvent.AUTH_REFUSED] * 3


async def test_a_token_with_somebody_elses_proof_is_refused_and_audited(house: House) -> None:
    phone, device_id = await house.pair()
    thief = Phone(credentials=phone.credentials)
    assert (await refused(house, thief.ask(PATH, house.now_ms))).code is Code.PROOF_INVALID
    assert house.audit.heard == [(AuditEvent.AUTH_REFUSED, Outcome.DENIED, device_id, {"reason": "wrong_key"})]


async def test_a_proof_for_another_place_or_token_is_refused(house: House) -> None:
    phone, _ = await house.pair()
    token = phone.access_token
    ath = sha256_b64u(token)
    for proof in (
        phone.proof("/api/v1/approvals", house.now_ms, ath=ath),
        phone.proof(PATH, house.now_ms, "DELETE", ath=ath),
        phone.proof(PATH, house.now_ms, ath=sha256_b64u("other")),
        phone.proof(PATH, house.now_ms, ath=ath, htu="https://evil.test" + PATH),
        phone.proof(PATH, house.now_ms),
    ):
        assert (await refused(house, show(PATH, f"DPoP {token}", proof))).code is Code.PROOF_INVALID


async def test_a_proof_may_name_any_configured_origin(house: House) -> None:
    phone, _ = await house.pair()
    ath = sha256_b64u(phone.access_token)
    for origin in (ORIGIN, "https://other.test"):
        proof = phone.proof(PATH, house.now_ms, ath=ath, htu=origin + PATH)
        await house.devices.authenticate(show(PATH, f"DPoP {phone.access_token}", proof))


async def test_two_proofs_or_a_cookie_beside_a_token_are_refused(house: House) -> None:
    phone, _ = await house.pair()
    good = phone.ask(PATH, house.now_ms)
    two = show(PATH, good.authorization, *good.proofs, *good.proofs)
    assert (await refused(house, two)).code is Code.PROOF_INVALID
    cookie = show(PATH, good.authorization, *good.proofs, has_cookie=True)
    assert (await refused(house, cookie)).code is Code.UNAUTHENTICATED
    assert await house.devices.authenticate(good)


@pytest.mark.parametrize(
    "authorization",
    [None, "", "DPoP", "DPoP ", "Basic YTpi", "DPoP not-a-token", "Bearer not-a-token", "Bearer ent_key_abc"],
)
async def test_anything_else_is_unauthenticated(house: House, authorization: str | None) -> None:
    phone, _ = await house.pair()
    problem = await refused(house, show(PATH, authorization, phone.proof(PATH, house.now_ms)))
    assert problem.code is Code.UNAUTHENTICATED
    assert not isinstance(problem, NoLonger)


async def test_an_expired_token_is_refused_and_no_guess(house: House) -> None:
    phone, _ = await house.pair()
    house.clock.advance(300)
    problem = await refused(house, phone.ask(PATH, house.now_ms))
    assert (problem.code, isinstance(problem, NoLonger)) == (Code.UNAUTHENTICATED, True)


async def test_a_token_whose_device_does_not_exist_is_refused(house: House) -> None:
    phone, _ = await house.pair()
    token, _ = house.tokens.mint_access(
        user_id="usr_x",
        device_id="dev_x",
        epoch=1,
        scopes=ALL_SCOPES,
        thumbprint=phone.key.thumbprint(),
        now_ms=house.now_ms,
    )
    proof = phone.proof(PATH, house.now_ms, ath=sha256_b64u(token))
    assert (await refused(house, show(PATH, f"DPoP {token}", proof))).code is Code.UNAUTHENTICATED


async def test_a_token_grants_no_more_than_its_device_holds(house: House) -> None:
    phone, device_id = await house.pair()
    device = await house.device(device_id)
    token, _ = house.tokens.mint_access(
        user_id=device.user_id,
        device_id=device_id,
        epoch=device.epoch,
        scopes=ALL_SCOPES,
        thumbprint=phone.key.thumbprint(),
        now_ms=house.now_ms,
    )
    proof = phone.proof(PATH, house.now_ms, ath=sha256_b64u(token))
    principal = await house.devices.authenticate(show(PATH, f"DPoP {token}", proof))
    assert principal.scopes == DEFAULT_DEVICE_SCOPES


async def test_a_device_is_seen_to_the_minute(house: House) -> None:
    phone, device_id = await house.pair()
    first = house.now_ms
    assert (await house.device(device_id)).last_seen_at_ms is None
    for after_s, seen_ms in ((0, first), (59, first), (1, first + 60_000)):
        house.clock.advance(after_s)
        await house.devices.authenticate(phone.ask(PATH, house.now_ms))
        device = await house.device(device_id)
        assert (device.last_seen_at_ms, device.first_used_at_ms) == (seen_ms, first)


async def test_the_local_socket_acts_as_the_owner(house: House) -> None:
    owner = await house.owner()
    principal = await house.devices.local_owner()
    assert principal == Principal(owner.user_id, ALL_SCOPES)
    await house.database.read(lambda tx: house.devices.guard(tx, principal))


# -- connections


async def test_a_connection_is_let_in_until_its_token_expires(house: House) -> None:
    phone, device_id = await house.pair()
    admitted = await connect(house, phone)
    assert admitted.principal.device_id == admitted.device.device_id == device_id
    assert admitted.expires_at_ms == house.now_ms + 300_000
    assert await house.devices_used(device_id)


async def test_a_connection_needs_no_right_clock_but_the_nonce_it_was_given(house: House) -> None:
    phone, _ = await house.pair()
    phone.skew_s = 86_400
    assert await connect(house, phone)
    assert await connection_refused(house, phone, shown_nonce="n-0") is Refusal.BAD_CREDENTIALS


async def test_a_request_proof_opens_no_connection(house: House) -> None:
    phone, _ = await house.pair()
    proof = phone.proof("/ws", house.now_ms, ath=sha256_b64u(phone.access_token))
    with pytest.raises(ConnectionRefused):
        await house.devices.authenticate_connection(phone.access_token, proof, "n-1")


async def test_a_connection_with_a_bad_credential_is_told_not_to_come_back(house: House) -> None:
    phone, _ = await house.pair()
    thief = Phone(credentials=phone.credentials)
    assert await connection_refused(house, thief) is Refusal.BAD_CREDENTIALS
    assert house.audit.events() == [AuditEvent.AUTH_REFUSED]
    with pytest.raises(ConnectionRefused) as caught:
        await house.devices.authenticate_connection("nonsense", "nonsense", "n-1")
    assert caught.value.reason is Refusal.BAD_CREDENTIALS


async def test_a_connection_with_an_old_token_is_told_to_refresh(house: House) -> None:
    phone, _ = await house.pair()
    house.clock.advance(300)
    assert await connection_refused(house, phone) is Refusal.STALE


async def test_a_connection_is_told_whether_its_device_is_suspended_or_revoked(house: House) -> None:
    phone, device_id = await house.pair()
    owner = await house.devices.local_owner()
    await house.devices.suspend(owner, device_id)
    assert await connection_refused(house, phone) is Refusal.SUSPENDED
    await house.devices.reactivate(owner, device_id)
    assert await connection_refused(house, phone) is Refusal.STALE
    await house.devices.revoke(owner, device_id)
    assert await connection_refused(house, phone) is Refusal.REVOKED
