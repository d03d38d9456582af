"""Whoever touches the log is found, with the place."""

import asyncio
import json

import pytest

from entobot.audit.events import AuditEvent
from entobot.audit.model import canonical, chain_hash
from entobot.audit.store import walk
from entobot.core.secrets import b64u
from entobot.storage.database import Transaction
from tests.audit.conftest import OWNER, Log
from tests.support.signing import TestSigner


async def rehash(log: Log, seq: int) -> None:
    """Give a changed row the hash that fits its new content, as somebody who knows the format would."""

    def unit(tx: Transaction) -> bytes:
        _, entry, _ = next(iter(walk(tx, seq - 1, seq)))
        assert entry is not None
        return chain_hash(entry)

    log.tamper("UPDATE audit_log SET hash=? WHERE seq=?", await log.database.read(unit), seq)


async def rewrite_from(log: Log, seq: int) -> None:
    """Rebuild the whole chain from `seq` on, head row included: consistent, but not what was signed."""
    last = log.ask("SELECT max(seq) FROM audit_log")[0][0]
    assert isinstance(last, int)
    for number in range(seq, last + 1):
        if number > 1:
            log.tamper(
                "UPDATE audit_log SET previous=(SELECT hash FROM audit_log WHERE seq=?) WHERE seq=?", number - 1, number
            )
        await rehash(log, number)
    log.tamper("UPDATE audit_head SET hash=(SELECT hash FROM audit_log WHERE seq=?)", last)


async def test_an_untouched_log_is_intact(log: Log) -> None:
    await log.start()
    await log.record(10, personal={"device_name": "Ann's phone"})
    result = await log.verify()
    assert (result.finding, result.checked, result.signed_seq, result.erased) == (None, 10, 8, 0)


async def test_an_empty_log_is_intact(log: Log) -> None:
    await log.start()
    assert await log.finding() is None


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("at_ms", 5),
        ("audit_id", "aud_other"),
        ("event", "device.paired"),
        ("outcome", "failure"),
        ("actor_user", "usr_other"),
        ("actor_user", None),
        ("actor_device", None),
        ("subject", "dev_other"),
        ("facts", '{"by":"someone","late":false,"n":1}'),
        ("facts", "no JSON"),
        ("facts", '{"n":NaN}'),
        ("commitments", "{}"),
        ("hash", bytes(32)),
        ("hash", b""),
        ("hash", b"?"),
        ("previous", bytes(32)),
    ],
)
async def test_an_edited_entry_is_found(log: Log, column: str, value: object) -> None:
    await log.record(6, personal={"device_name": "Ann's phone"})
    log.tamper(f"UPDATE audit_log SET {column}=? WHERE seq=3", value)
    assert await log.finding() == ("edited", 3)


async def test_a_device_put_beside_the_gateways_own_doing_is_found(log: Log) -> None:
    await log.record(3, actor=None)
    log.tamper("UPDATE audit_log SET actor_device='dev_other' WHERE seq=2")
    assert await log.finding() == ("edited", 2)


async def test_an_edited_entry_with_a_matching_hash_is_found(log: Log) -> None:
    await log.record(6)
    log.tamper("UPDATE audit_log SET subject='dev_other' WHERE seq=3")
    await rehash(log, 3)
    assert await log.finding() == ("edited", 3)


async def test_an_edited_last_entry_with_a_matching_hash_is_found(log: Log) -> None:
    await log.record(6)
    log.tamper("UPDATE audit_log SET subject='dev_other' WHERE seq=6")
    await rehash(log, 6)
    assert await log.finding() == ("edited", 6)


async def test_a_chain_rewritten_to_its_end_contradicts_the_signed_heads(log: Log) -> None:
    await log.start()
    await log.record(10)
    log.tamper("UPDATE audit_log SET subject='dev_other' WHERE seq=6")
    await rewrite_from(log, 6)
    assert await log.finding() == ("edited", 5), "entries up to 4 are signed and stand; 5 to 8 are in doubt"


async def test_a_chain_rewritten_without_its_signatures_contradicts_the_file(log: Log) -> None:
    await log.start()
    await log.record(10)
    await log.seal()
    log.tamper("UPDATE audit_log SET subject='dev_other' WHERE seq=6")
    await rewrite_from(log, 6)
    log.tamper("DELETE FROM audit_signed_heads")
    assert await log.finding() == ("edited", 1)


async def test_a_deletion_in_the_middle_is_found(log: Log) -> None:
    await log.record(6)
    log.tamper("DELETE FROM audit_log WHERE seq IN (3, 4)")
    assert await log.finding() == ("missing", 3)


async def test_a_deleted_first_entry_is_found(log: Log) -> None:
    await log.record(6)
    log.tamper("DELETE FROM audit_log WHERE seq=1")
    assert await log.finding() == ("missing", 1)


async def test_a_cut_tail_is_found(log: Log) -> None:
    await log.record(6)
    log.tamper("DELETE FROM audit_log WHERE seq > 4")
    assert await log.finding() == ("cut_tail", 5)


async def cut_back_to(log: Log, seq: int) -> None:
    """Cut the tail and every trace of it in the database."""
    log.tamper("DELETE FROM audit_log WHERE seq > ?", seq)
    log.tamper("DELETE FROM audit_signed_heads WHERE seq > ?", seq)
    log.tamper("UPDATE audit_head SET seq=?, hash=(SELECT hash FROM audit_log WHERE seq=?)", seq, seq)


async def test_a_tail_cut_together_with_its_head_row_is_found_by_the_signed_file(log: Log) -> None:
    await log.start()
    await log.record(9)
    await log.seal()
    await cut_back_to(log, 5)
    assert await log.finding() == ("cut_tail", 6)


async def test_a_cut_tail_stays_found_when_the_log_grows_past_it(log: Log) -> None:
    await log.start()
    await log.record(9)
    await log.seal()
    await cut_back_to(log, 5)
    await log.record(12)
    await log.seal()
    assert await log.finding() == ("edited", 5)
    await log.start()
    await log.record(12)
    await log.seal()
    assert await log.finding() == ("edited", 5)


async def test_signed_heads_in_the_database_beyond_its_end_show_a_cut(log: Log) -> None:
    await log.start()
    await log.record(9)
    await log.audit._heads.drain()
    log.file.unlink()
    log.tamper("DELETE FROM audit_log WHERE seq > 5")
    log.tamper("UPDATE audit_head SET seq=5, hash=(SELECT hash FROM audit_log WHERE seq=5)")
    assert await log.finding() == ("cut_tail", 6)


async def test_a_log_begun_anew_contradicts_the_signed_file(log: Log) -> None:
    await log.start()
    await log.record(9)
    for table in ("audit_log", "audit_head", "audit_signed_heads"):
        log.tamper(f"DELETE FROM {table}")
    assert await log.finding() == ("cut_tail", 1)
    log.clock.advance(60)
    await log.start()
    await log.record(12)
    assert await log.finding() == ("edited", 1)


async def test_a_forged_signature_in_the_file_is_found(log: Log) -> None:
    await log.start()
    await log.record(9)
    await log.seal()
    genuine = log.file.read_bytes()
    log.file.write_bytes(TestSigner().sign_head(b'{"v":1}').encode())
    assert await log.finding() == ("head_signature_invalid", 10)
    log.file.write_bytes(genuine)
    assert await log.finding() is None


async def test_a_forged_signature_in_the_file_is_not_signed_over_at_the_next_start(log: Log) -> None:
    await log.start()
    await log.record(9)
    await log.seal()
    log.file.write_bytes(b"forged")
    await log.start()
    await log.record(9)
    await log.seal()
    assert log.file.read_bytes() == b"forged"
    assert (await log.verify()).finding is not None


async def test_a_forged_signature_in_the_database_is_found(log: Log) -> None:
    await log.start()
    await log.record(9)
    log.tamper("UPDATE audit_signed_heads SET jws=? WHERE seq=4", TestSigner().sign_head(b"{}"))
    assert await log.finding() == ("head_signature_invalid", 4)


async def test_a_lost_head_file_is_told(log: Log) -> None:
    await log.start()
    await log.record(9)
    await log.seal()
    log.file.unlink()
    assert await log.finding() == ("head_missing", 10)


async def test_an_entry_slipped_in_behind_the_end_is_found(log: Log) -> None:
    await log.record(3)
    log.tamper(
        "INSERT INTO audit_log SELECT 4, audit_id, at_ms, event, outcome, actor_user, actor_device, subject, facts, "
        "commitments, hash, hash FROM audit_log WHERE seq=3"
    )
    assert await log.finding() == ("edited", 4)


async def test_a_head_row_taken_away_is_found(log: Log) -> None:
    await log.record(3)
    log.tamper("DELETE FROM audit_head")
    assert await log.finding() == ("edited", 1)


@pytest.mark.parametrize("change", ["value", "salt", "taken", "added", "unreadable"])
async def test_an_altered_personal_value_is_found(log: Log, change: str) -> None:
    await log.record(5, personal={"address": "192.0.2.7", "device_name": "Ann's phone"})
    text = str(log.ask("SELECT fields FROM audit_personal WHERE seq=3")[0][0])
    fields = json.loads(text)
    if change == "value":
        fields["address"]["value"] = "192.0.2.8"
    elif change == "salt":
        fields["address"]["salt"] = b64u(bytes(16))
    elif change == "taken":
        del fields["address"]
    elif change == "added":
        fields["more"] = fields["address"]
    log.tamper("UPDATE audit_personal SET fields=? WHERE seq=3", "x" if change == "unreadable" else canonical(fields))
    kind = "edited" if change == "unreadable" else "personal_altered"
    assert await log.finding() == (kind, 3)


async def test_erasing_personal_values_leaves_the_chain_whole_and_is_recorded(log: Log) -> None:
    await log.start()
    await log.record(2, subject="dev_1", personal={"device_name": "Ann's phone"})
    await log.record(1, subject="dev_2", personal={"device_name": "Bob's phone"})
    erased = await log.database.write(
        lambda tx: log.audit.erase_personal(tx, now_ms=log.clock.now_ms(), by=OWNER, subject="dev_1")
    )
    result = await log.verify()
    assert (erased, result.finding, result.erased) == (2, None, 2)
    page = await log.database.read(log.audit.find)
    assert [found.personal for found in page.entries] == [{}, {"device_name": "Bob's phone"}, None, None]
    newest = page.entries[0].entry
    assert (newest.event, newest.facts["entries"]) == (AuditEvent.AUDIT_PERSONAL_ERASED, 2)
    assert log.ask("SELECT count(*) FROM audit_personal") == [(1,)]


async def test_entries_written_during_the_walk_do_not_disturb_it(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("entobot.audit.verify.PAGE", 3)
    await log.start()
    await log.record(10)
    seen: list[tuple[int, int]] = []
    more: list[asyncio.Task[None]] = []

    def progress(done: int, total: int) -> None:
        seen.append((done, total))
        more.append(asyncio.create_task(log.record(2)))

    result = await log.verify(progress)
    await asyncio.gather(*more)
    assert (result.finding, seen) == (None, [(3, 10), (6, 10), (9, 10), (10, 10)])
    assert await log.finding() is None


async def test_without_a_signer_the_chain_is_checked_and_says_that_nothing_is_signed(log: Log) -> None:
    log.reopen()
    log.audit._heads.signer = None
    await log.record(9)
    result = await log.verify()
    assert (result.finding, result.checked, result.signed_seq) == (None, 9, None)
    assert not log.file.exists()
