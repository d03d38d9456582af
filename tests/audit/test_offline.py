"""Exported files tell whether anybody touched them, to whoever has the key, without the gateway."""

import asyncio
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entobot.audit.events import AuditEvent
from entobot.audit.lines import FileHead, end_line, head_line
from entobot.audit.model import genesis
from entobot.audit.note import Checkpoint, VerifierKey, open_note
from entobot.audit.offline import Fault, Proof, verify_files
from entobot.audit.searching import Filters
from entobot.audit.service import ExportWanted
from entobot.audit.tree import EMPTY
from tests.audit.conftest import NOTES, OWNER, Log
from tests.audit.test_verify import rewrite_from

Files = Callable[..., Path]


async def exported(log: Log, wanted: ExportWanted | None = None) -> bytes:
    pages = await log.audit.export(
        log.database.read, log.database.write, wanted or ExportWanted("jsonl"), now_ms=log.clock.now_ms(), by=OWNER
    )
    return b"".join([page async for page in pages])


async def key_of(log: Log) -> VerifierKey:
    key = await log.audit.checkpoints.key(log.database.read)
    assert key is not None
    return key


async def checkpoint(log: Log) -> Checkpoint:
    made = await log.audit.checkpoints.make(log.database.read, log.database.write, log.clock.now_ms())
    assert made is not None
    return open_note(made.note, await key_of(log))


@pytest.fixture
def written(tmp_path: Path) -> Files:
    def write(data: bytes, name: str = "audit.jsonl") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


async def verified(files: list[Path], **given: Any) -> Proof:
    return await asyncio.to_thread(verify_files, files, **given)


def fault(proof: Proof) -> Fault | None:
    return None if proof.fault is None else proof.fault.kind


async def test_the_whole_log_is_proven_to_the_last_entry(log: Log, written: Files) -> None:
    await log.record(300, personal={"device_name": 'Ann\'s "phone" \u2028'})
    data = await exported(log)
    for file in (written(data), written(gzip.compress(data), "audit.jsonl.gz")):
        proof = await verified([file], key=await key_of(log))
        assert (proof.fault, proof.first, proof.last, proof.entries, proof.signed) == (None, 1, 301, 301, 301)
        assert (proof.anchored, proof.without_values, proof.is_selection) == (0, 0, False)


async def test_the_export_is_recorded_with_who_and_what(log: Log) -> None:
    await exported(log, ExportWanted("csv", Filters(event="device.", text="Ann")))
    page = await log.database.read(log.audit.find)
    entry = page.entries[0]
    assert (entry.entry.event, entry.entry.facts) == (
        "audit.exported",
        {"format": "csv", "after": 0, "event": "device."},
    )
    assert entry.personal == {"text": "Ann"}
    assert entry.entry.actor is not None
    assert entry.entry.actor.user_id == OWNER.user_id


async def test_parts_of_the_log_are_proven_together_and_alone(log: Log, written: Files) -> None:
    await log.record(40)
    first = written(await exported(log), "1")
    await log.record(40)
    second = written(await exported(log, ExportWanted("jsonl", after=41)), "2")
    key = await key_of(log)
    both = await verified([first, second], key=key)
    assert (both.fault, both.first, both.last, both.signed) == (None, 1, 82, 82)
    alone = await verified([second], key=key)
    assert (alone.fault, alone.first, alone.last, alone.signed) == (None, 42, 82, 82)
    assert fault(await verified([second, first], key=key)) is Fault.MISSING
    assert fault(await verified([first, first], key=key)) is Fault.MISSING


async def test_erased_values_leave_the_file_good_and_are_counted(log: Log, written: Files) -> None:
    await log.record(3, personal={"device_name": "Ann"})
    await log.database.write(lambda tx: log.audit.erase_personal(tx, now_ms=1, by=None, subject="dev_1"))
    proof = await verified([written(await exported(log))], key=await key_of(log))
    assert (proof.fault, proof.without_values) == (None, 3)


async def test_a_selection_proves_its_entries_and_no_more(log: Log, written: Files) -> None:
    await log.record(3)
    await log.record(2, event=AuditEvent.INVITE_CREATED)
    file = written(await exported(log, ExportWanted("jsonl", Filters(event="invite."))))
    proof = await verified([file])
    assert (proof.fault, proof.entries, proof.is_selection, proof.signed) == (None, 2, True, 0)
    assert fault(await verified([file], key=await key_of(log))) is Fault.UNSIGNED
    edited = written(file.read_bytes().replace(b'"n":1', b'"n":2', 1), "edited")
    assert fault(await verified([edited])) is Fault.EDITED


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    how=st.sampled_from(["byte", "drop", "repeat", "swap", "cut", "cut bytes", "space", "number"]),
    where=st.tuples(st.integers(0, 2**20), st.integers(0, 2**20)),
    byte=st.integers(0, 255),
)
async def test_whatever_is_changed_in_a_file_is_found(
    log: Log, written: Files, tmp_path: Path, how: str, where: tuple[int, int], byte: int
) -> None:
    kept = tmp_path / "kept"
    if not kept.exists():
        await log.record(12, personal={"device_name": "Ann's phone"})
        kept.write_bytes(await exported(log))
    whole = kept.read_bytes()
    lines = whole.splitlines(keepends=True)
    n, m = (one % len(lines) for one in where)
    at = where[0] % len(whole)
    changed = list(lines)
    if how == "byte":
        changed = [whole[:at], bytes([byte]), whole[at + 1 :]]
    elif how == "drop":
        del changed[n]
    elif how == "repeat":
        changed.insert(m, lines[n])
    elif how == "swap":
        changed[n], changed[m] = changed[m], changed[n]
    elif how == "cut":
        changed = lines[:n]
    elif how == "cut bytes":
        changed = [whole[:at]]
    elif how == "space":
        changed[n] = changed[n].replace(b":", b": ", 1)
    else:
        changed[n] = changed[n].replace(b'"seq":', b'"seq":1', 1)
    text = b"".join(changed)
    if text not in (whole, b""):
        assert not (await verified([written(text)], key=await key_of(log))).is_good, how


async def test_an_empty_file_is_no_log(written: Files) -> None:
    proof = await verified([written(b"")])
    assert fault(proof) is Fault.UNREADABLE


async def test_a_head_and_an_end_without_entries_prove_nothing_to_who_has_a_key(written: Files) -> None:
    text = head_line(FileHead("aud_test", 1, genesis("aud_test"), EMPTY)) + "\n" + end_line(0) + "\n"
    key = NOTES.verifier("entobot/audit/aud_test")
    assert fault(await verified([written(text.encode())], key=key)) is Fault.UNSIGNED


async def test_a_head_cannot_write_its_own_verdict_on_the_terminal(written: Files) -> None:
    evil = "aud_x\x1b[2J\x1b[HGOOD.\n5000 entries of aud_real, 1 to 5000, in one unbroken chain.\x1b[8m"
    text = head_line(FileHead(evil, 1, None, None, {})) + "\n" + end_line(0) + "\n"
    proof = await verified([written(text.encode())])
    assert fault(proof) is Fault.UNREADABLE
    assert "5000" not in str(proof)


async def test_entries_of_another_log_are_not_taken_for_this_ones(log: Log, written: Files, tmp_path: Path) -> None:
    await log.record(5)
    first = written(await exported(log), "first")
    text = first.read_text().replace(json.loads(first.read_text().split("\n")[0])["log"], "aud_other")
    assert fault(await verified([written(text.encode())], key=await key_of(log))) is Fault.EDITED
    other = NOTES.verifier("entobot/audit/aud_other")
    assert fault(await verified([first], key=other)) is Fault.OTHER_LOG


async def test_a_log_without_signatures_is_good_for_nobody_with_a_key(log: Log, written: Files) -> None:
    await log.record(5)
    data = await exported(log)
    without = b"".join(line for line in data.splitlines(keepends=True) if b'"checkpoint"' not in line)
    file = written(without)
    assert fault(await verified([file], key=await key_of(log))) is Fault.UNSIGNED
    assert (await verified([file])).is_good


async def test_a_log_rewritten_with_its_key_contradicts_a_checkpoint_that_was_kept_elsewhere(
    log: Log, written: Files
) -> None:
    """Whoever holds database and keys makes a log that is good in itself: only what left the machine tells."""
    await log.record(10)
    anchor = await checkpoint(log)
    await log.record(2)
    log.tamper("UPDATE audit_log SET subject='dev_other' WHERE seq=6")
    await rewrite_from(log, 6)
    for table in ("audit_checkpoints", "audit_signed_heads"):
        log.change(f"DELETE FROM {table}")
    file = written(await exported(log))
    key = await key_of(log)
    alone = await verified([file], key=key)
    assert (alone.fault, alone.signed) == (None, 13), "it is signed anew"
    assert fault(await verified([file], key=key, anchors=[anchor])) is Fault.CONTRADICTED


async def test_a_checkpoint_is_not_made_of_a_log_that_contradicts_the_one_before(log: Log) -> None:
    await log.record(10)
    await checkpoint(log)
    log.tamper("UPDATE audit_log SET subject='dev_other' WHERE seq=6")
    await rewrite_from(log, 6)
    await log.record(1)
    assert await log.audit.checkpoints.make(log.database.read, log.database.write, 1) is None


async def test_anchors_prove_what_they_cover_and_tell_what_is_not_here(log: Log, written: Files) -> None:
    await log.record(10)
    old = await checkpoint(log)
    file = written(await exported(log))
    await log.record(10)
    newer = await checkpoint(log)
    key = await key_of(log)
    proof = await verified([file], key=key, anchors=[old, newer])
    assert (proof.fault, proof.signed, proof.anchored, proof.beyond) == (None, 11, 10, 21)
    assert fault(await verified([file], key=key, anchors=[newer], is_complete=True)) is Fault.CUT_OFF
    assert (await verified([file], key=key, anchors=[old], is_complete=True)).is_good


async def test_two_logs_under_one_name_are_told_by_their_checkpoints(log: Log, written: Files) -> None:
    await log.record(3)
    one = await checkpoint(log)
    other = Checkpoint(one.origin, one.size, bytes(32))
    file = written(await exported(log))
    assert fault(await verified([file], key=await key_of(log), anchors=[one, other])) is Fault.CONTRADICTED


async def test_a_table_computes_nothing_in_a_spreadsheet(log: Log) -> None:
    await log.record(1, subject='=HYPERLINK("http://x")', facts={"by": "@SUM"}, personal={"device_name": '+1, "x"\n'})
    text = (await exported(log, ExportWanted("csv"))).decode()
    head, first, *_ = text.split("\r\n")
    assert head == "seq,at,event,outcome,user_id,device_id,subject,facts,personal,hash"
    assert '"\'=HYPERLINK(""http://x"")"' in first
    assert all(not cell.startswith(("=", "+", "-", "@")) for cell in first.split(","))
