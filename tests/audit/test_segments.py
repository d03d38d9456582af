"""Closed segments follow one another, are verified like exports, and hold nothing that could have to be erased."""

import asyncio
import gzip
from datetime import timedelta
from pathlib import Path

import pytest

from entobot.audit.exporting import Unreadable
from entobot.audit.offline import Fault, verify_files
from entobot.audit.segments import Rotation, Segments
from entobot.home import private_folder
from tests.audit.conftest import Log


async def close(log: Log, segments: Segments) -> Path | None:
    made = await log.audit.checkpoints.make(log.database.read, log.database.write, log.clock.now_ms())
    return await segments.close_if_due(log.database.read, made, log.clock.now_ms())


@pytest.fixture
def segments(tmp_path: Path) -> Segments:
    return Segments(tmp_path / "audit", Rotation(20, timedelta(days=1)), private_folder)


async def test_segments_are_closed_by_count_and_by_age_and_follow_one_another(
    log: Log, segments: Segments, tmp_path: Path
) -> None:
    assert await close(log, segments) is None
    await log.record(19, personal={"device_name": "Ann's phone"})
    assert await close(log, segments) is None, "too few, too young"
    await log.record(1)
    first = await close(log, segments)
    assert await close(log, segments) is None, "nothing new"
    await log.record(5)
    assert await close(log, segments) is None
    log.clock.advance(86_400)
    second = await close(log, segments)
    assert first is not None
    assert second is not None
    assert [first.name, second.name] == ["000000000001-000000000020.jsonl.gz", "000000000021-000000000025.jsonl.gz"]
    assert first.stat().st_mode & 0o777 == 0o600
    assert first.parent.stat().st_mode & 0o777 == 0o700
    assert b"Ann" not in gzip.decompress(await asyncio.to_thread(first.read_bytes))
    key = await log.audit.checkpoints.key(log.database.read)
    proof = await asyncio.to_thread(verify_files, [first, second], key=key)
    assert (proof.fault, proof.first, proof.last, proof.signed, proof.without_values) == (None, 1, 25, 25, 19)
    alone = await asyncio.to_thread(verify_files, [second], key=key)
    assert (alone.fault, alone.first, alone.signed) == (None, 21, 25)
    wrong = await asyncio.to_thread(verify_files, [second, first], key=key)
    assert wrong.fault is not None
    assert wrong.fault.kind is Fault.MISSING


async def test_after_a_restart_the_next_segment_goes_on_behind_the_last(
    log: Log, segments: Segments, tmp_path: Path
) -> None:
    await log.record(20)
    await close(log, segments)
    await log.record(20)
    again = Segments(tmp_path / "audit", Rotation(20, timedelta(days=1)), private_folder)
    file = await close(log, again)
    assert file is not None
    assert file.name.startswith("000000000021-")


async def test_no_segment_is_made_of_a_log_that_was_altered(log: Log, segments: Segments, tmp_path: Path) -> None:
    await log.record(20)
    made = await log.audit.checkpoints.make(log.database.read, log.database.write, 1)
    log.tamper("DELETE FROM audit_log WHERE seq = 5")
    with pytest.raises(Unreadable, match="Entry 5"):
        await segments.close_if_due(log.database.read, made, log.clock.now_ms())
    assert list((tmp_path / "audit").glob("*.gz")) == []
