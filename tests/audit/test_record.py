import asyncio
import json
import stat

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.model import canonical, parse_head
from entobot.audit.searching import ALL, Filters
from entobot.core.errors import Problem
from entobot.core.principal import Principal
from tests.audit.conftest import OWNER, Log

ON_EVERY_STORE = True
names = st.from_regex(r"[a-z_][a-z0-9_]{0,20}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]))
facts = st.dictionaries(
    names, st.one_of(texts, st.integers(-(2**53) + 1, 2**53 - 1), st.booleans(), st.none()), max_size=8
)


@given(facts, texts)
def test_our_canonical_text_is_rfc_8785(some: dict[str, object], text: str) -> None:
    value = {"facts": some, "seq": 1, "subject": text, "actor": None}
    assert canonical(value).encode() == rfc8785.dumps(value)  # pyright: ignore[reportArgumentType]  plain JSON


async def test_an_entry_shares_the_fate_of_its_unit(log: Log) -> None:
    await log.record(1)

    def fail(tx) -> None:  # noqa: ANN001
        log.audit.record(tx, AuditEvent.KEY_ROTATED, now_ms=1)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await log.database.write(fail)
    await log.record(1)
    assert log.ask("SELECT seq, event FROM audit_log") == [(1, "device.renamed"), (2, "device.renamed")]
    assert await log.finding() is None


async def test_concurrent_units_make_one_chain(log: Log) -> None:
    await log.start()
    await asyncio.gather(*(log.record(5) for _ in range(20)))
    result = await log.verify()
    assert (result.finding, result.checked, result.signed_seq) == (None, 100, 100)


async def test_personal_values_stand_in_the_side_table_only(log: Log) -> None:
    await log.record(1, personal={"device_name": "Ann's phone"})
    assert "Ann" not in str(log.ask("SELECT * FROM audit_log"))
    assert "Ann" in str(log.ask("SELECT * FROM audit_personal"))


async def test_equal_personal_values_have_different_commitments(log: Log) -> None:
    await log.record(2, personal={"device_name": "Ann's phone"})
    first, second = log.ask("SELECT commitments FROM audit_log")
    assert first != second


async def test_text_that_no_database_holds_is_recorded_readably(log: Log) -> None:
    await log.record(1, facts={"reason": "a\0b\ud800"}, personal={"name": "c\0\udfff"}, subject="s\ud800")
    assert await log.finding() is None
    page = await log.database.read(log.audit.find)
    assert page.entries[0].entry.facts == {"reason": "a\ufffdb?"}
    assert page.entries[0].personal == {"name": "c\ufffd?"}


async def test_text_too_long_is_cut_and_tells_the_digest_of_the_whole(log: Log) -> None:
    await log.record(1, facts={"reason": "x" * 20_000})
    page = await log.database.read(log.audit.find)
    reason = page.entries[0].entry.facts["reason"]
    assert isinstance(reason, str)
    assert len(reason) <= 16_384 + 8
    assert "sha256" in reason


@pytest.mark.parametrize("facts", [{"n": 2**53}, {"not a name": 1}, {"ä": 1}, {f"f{n}": n for n in range(33)}])
async def test_facts_that_the_chain_cannot_hold_are_a_mistake_of_the_caller(log: Log, facts: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"integer|name|fields"):
        await log.record(1, facts=facts)


async def test_the_head_is_signed_every_so_many_entries_and_kept_in_a_private_file(log: Log) -> None:
    await log.start()
    await log.record(3)
    assert not log.file.exists()
    await log.record(6)
    await log.audit._heads.drain()
    assert parse_head(log.signer.verify_head(log.file.read_text().strip())).seq == 8
    assert stat.S_IMODE(log.file.stat().st_mode) == 0o600
    assert log.ask("SELECT seq FROM audit_signed_heads") == [(4,), (8,)]


async def test_stopping_signs_the_rest(log: Log) -> None:
    await log.start()
    await log.record(6)
    await log.seal()
    assert parse_head(log.signer.verify_head(log.file.read_text().strip())).seq == 6


async def test_starting_signs_what_a_crash_left_unsigned(log: Log) -> None:
    await log.record(3)
    await log.start()
    assert parse_head(log.signer.verify_head(log.file.read_text().strip())).seq == 3


async def test_a_unit_that_fails_signs_nothing(log: Log) -> None:
    await log.start()
    await log.record(3)

    def fail(tx) -> None:  # noqa: ANN001
        log.audit.record(tx, AuditEvent.KEY_ROTATED, now_ms=1)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await log.database.write(fail)
    assert log.signer.signed == 1
    await log.audit._heads.drain()
    assert not log.file.exists()
    assert log.ask("SELECT count(*) FROM audit_signed_heads") == [(0,)]


async def search(log: Log, filters: Filters = ALL, **cursor: int) -> tuple[list[int], int | None]:
    page = await log.database.read(lambda tx: log.audit.find(tx, filters, **cursor))
    return [found.entry.seq for found in page.entries], page.next


async def test_pages_follow_one_another_in_both_directions(log: Log) -> None:
    await log.record(7)
    assert await search(log, limit=3) == ([7, 6, 5], 5)
    assert await search(log, before=5, limit=3) == ([4, 3, 2], 2)
    assert await search(log, before=2, limit=3) == ([1], None)
    assert await search(log, after=0, limit=3) == ([1, 2, 3], 3)
    assert await search(log, after=4, limit=3) == ([5, 6, 7], None)


async def test_each_filter_narrows(log: Log) -> None:
    await log.record(1, subject="inv_1", event=AuditEvent.INVITE_CREATED)
    await log.record(1, subject="inv_1", event=AuditEvent.INVITE_CLAIM_REFUSED, outcome=Outcome.DENIED, actor=None)
    await log.record(1, subject="dev_1", actor=Principal("usr_2", frozenset(), "dev_2"))
    at = log.clock.now_ms()
    assert (await search(log, Filters(event="invite.")))[0] == [2, 1]
    assert (await search(log, Filters(event="INVITE.")))[0] == []
    assert (await search(log, Filters(event="invite.%")))[0] == []
    assert (await search(log, Filters(subject="inv_1", outcome=Outcome.DENIED)))[0] == [2]
    assert (await search(log, Filters(actor=OWNER.user_id)))[0] == [1]
    assert (await search(log, Filters(actor="dev_2")))[0] == [3]
    assert (await search(log, Filters(since_ms=at)))[0] == [3]
    assert (await search(log, Filters(until_ms=at)))[0] == [2, 1]
    assert (await search(log, Filters(subject="inv_1"), before=2))[0] == [1]


@pytest.mark.parametrize("cursor", [{"after": 1, "before": 2}, {"limit": 0}, {"limit": 501}])
async def test_senseless_pages_are_refused(log: Log, cursor: dict[str, int]) -> None:
    with pytest.raises(Problem):
        await search(log, ALL, **cursor)


async def test_an_altered_entry_that_cannot_be_read_is_told_by_the_search(log: Log) -> None:
    await log.record(2)
    log.tamper("UPDATE audit_log SET facts='no JSON' WHERE seq=2")
    with pytest.raises(Problem, match="altered"):
        await search(log)


async def test_erasing_needs_to_know_whose(log: Log) -> None:
    with pytest.raises(ValueError, match="whose"):
        await log.database.write(lambda tx: log.audit.erase_personal(tx, now_ms=1, by=None))


async def test_erasing_by_actor_and_age_hold_together(log: Log) -> None:
    await log.record(2, personal={"address": "192.0.2.7"})
    until = log.clock.now_ms()
    await log.record(1, personal={"address": "192.0.2.7"}, actor=None)

    def erase(tx):  # noqa: ANN001, ANN202
        return log.audit.erase_personal(tx, now_ms=until, by=None, actor=OWNER.user_id, until_ms=until)

    assert await log.database.write(erase) == 1
    assert json.dumps(log.ask("SELECT seq FROM audit_personal")) == "[[2], [3]]"
