"""What other systems are sent: every entry at least once, in order, in their own words."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from entobot.app.audit_keeping import outlet_of
from entobot.audit import sink_syslog
from entobot.audit.events import AuditEvent, Outcome
from entobot.audit.formats import syslog
from entobot.audit.lines import EntryLine, parse_line
from entobot.audit.model import Actor, Entry
from entobot.audit.note import open_notes
from entobot.audit.ocsf import Class, meaning, ocsf
from entobot.audit.sending import Sender
from entobot.audit.sink import SinkFailed
from entobot.config_audit import AuditSink
from entobot.telemetry.meters import Meters
from tests.audit.conftest import Log
from tests.support.receivers import HttpReceiver, SyslogServer
from tests.support.time import SeededEntropy


def sender(log: Log, node_id: str = "nod_a", alive: tuple[str, ...] = (), **given: Any) -> Sender:
    outlet = outlet_of(AuditSink.model_validate({"name": "there", "format": "jsonl"} | given), "gate.example")
    return Sender(
        outlet,
        audit=log.audit,
        database=log.database,
        clock=log.clock,
        entropy=SeededEntropy(),
        meters=Meters(),
        node_id=node_id,
        alive=lambda _: frozenset({node_id, *alive}),
    )


async def drained(one: Sender) -> None:
    while await one.step():
        pass


async def steps(one: Sender, count: int) -> None:
    for _ in range(count):
        await one.step()


def seqs(lines: list[str]) -> list[int]:
    found = [parse_line(line) for line in lines]
    return [line.entry.seq for line in found if isinstance(line, EntryLine)]


async def test_a_file_gets_every_entry_once_and_goes_on_after_a_restart(log: Log, tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    await log.record(600, personal={"device_name": "Ann"})
    await drained(sender(log, url=f"file://{file}"))
    await log.record(1)
    await drained(sender(log, url=f"file://{file}"))
    assert seqs(file.read_text().splitlines()) == list(range(1, 602))
    assert "Ann" not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


async def test_personal_values_are_sent_where_that_is_set(log: Log, tmp_path: Path) -> None:
    await log.record(1, personal={"device_name": "Ann"})
    await drained(sender(log, url=f"file://{tmp_path}/out", personal=True))
    assert "Ann" in (tmp_path / "out").read_text()


async def test_a_line_that_a_crash_cut_off_harms_no_other(log: Log, tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    file.write_text('{"seq":')
    await log.record(1)
    await drained(sender(log, url=f"file://{file}"))
    assert seqs(file.read_text().splitlines()[1:]) == [1]


async def test_an_http_receiver_gets_what_it_refused_again(log: Log, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    receiver = await HttpReceiver().start()
    receiver.answers = [503, 204, 302]
    one = sender(log, url=f"http://127.0.0.1:{receiver.port}/in", token_file=tmp_path / "token")
    try:
        await log.record(300)
        with pytest.raises(SinkFailed, match="503"):
            await one.step()
        await one.step()
        with pytest.raises(SinkFailed, match="302"):
            await one.step()
        await drained(one)
    finally:
        await receiver.stop()
        await one.outlet.sink.close()
    assert seqs(receiver.lines) == list(range(1, 301))
    assert receiver.headers[0]["authorization"] == "Bearer secret"
    assert receiver.headers[0]["content-type"] == "application/x-ndjson"


async def test_a_receiver_that_is_away_loses_nothing(log: Log, tmp_path: Path) -> None:
    folder = tmp_path / "away"
    one = sender(log, url=f"file://{folder}/out")
    for _ in range(3):
        await log.record(200)
        with pytest.raises(SinkFailed, match="cannot be written"):
            await one.step()
    folder.mkdir()
    await drained(one)
    assert seqs((folder / "out").read_text().splitlines()) == list(range(1, 601))


async def test_only_one_of_two_nodes_sends_until_it_is_gone(log: Log, tmp_path: Path) -> None:
    await log.record(3)
    a, b = (
        sender(log, node_id=node, alive=("nod_a", "nod_b"), url=f"file://{tmp_path}/{node}")
        for node in ("nod_a", "nod_b")
    )
    await drained(a)
    await log.record(2)
    await drained(b)
    assert not (tmp_path / "nod_b").exists()
    alone = sender(log, node_id="nod_b", url=f"file://{tmp_path}/nod_b")
    await drained(alone)
    assert seqs((tmp_path / "nod_b").read_text().splitlines()) == [4, 5]


async def test_checkpoints_are_kept_where_they_are_sent(log: Log, tmp_path: Path) -> None:
    one = sender(log, url=f"file://{tmp_path}/anchors", format="checkpoint")
    await drained(one)
    for count in (3, 4):
        await log.record(count)
        made = await log.audit.checkpoints.make(log.database.read, log.database.write, 1)
        assert made is not None
        await drained(one)
        await drained(one)
    key = await log.audit.checkpoints.key(log.database.read)
    assert key is not None
    assert [found.size for found in open_notes([(tmp_path / "anchors").read_text()], key)] == [3, 7]


async def test_an_altered_entry_is_not_passed_on_and_is_told(log: Log, tmp_path: Path) -> None:
    await log.record(5)
    log.tamper("UPDATE audit_log SET facts='no JSON' WHERE seq=3")
    one = sender(log, url=f"file://{tmp_path}/out")
    await one.step()
    with pytest.raises(SinkFailed, match="entry 3 was altered"):
        await one.step()
    assert seqs((tmp_path / "out").read_text().splitlines()) == [1, 2]


async def test_a_long_outage_is_recorded_once_and_so_is_its_end(log: Log, tmp_path: Path) -> None:
    one = sender(log, url=f"file://{tmp_path}/away/out")
    await log.record(1)
    for _ in range(5):
        await one._note_failure("it is away")
        log.clock.advance(40)
    assert "it is away" in one.complaint
    assert one.complaint.startswith("The audit log does not reach 'there' since 3 minutes")
    (tmp_path / "away").mkdir()
    await drained(one)
    assert one.complaint == ""
    told = [event for (event,) in log.ask("SELECT event FROM audit_log WHERE event LIKE 'audit.sink%' ORDER BY seq")]
    assert told == ["audit.sink_failed", "audit.sink_recovered"]
    for _ in range(5):
        await one._note_failure("again")
        log.clock.advance(40)
    assert log.ask("SELECT count(*) FROM audit_log WHERE event = 'audit.sink_failed'") == [(1,)], "once an hour"


def test_waiting_grows_and_is_never_the_same_for_all(log: Log) -> None:
    one = sender(log, url="file:///x")
    waits = [one._backoff_s(failures) for failures in range(1, 20)]
    assert all(low <= wait <= high for wait, low, high in zip(waits[:3], (0.5, 1, 2), (1, 2, 4), strict=True))
    assert 30 <= waits[-1] <= 60
    assert len(set(waits)) == len(waits)


# -- syslog

RFC5424 = re.compile(
    r"<(?P<priority>[1-9]\d{0,2})>1 (?P<at>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (?P<host>[!-~]{1,255}) "
    r"(?P<app>[!-~]{1,48}) (?P<process>[!-~]{1,128}) (?P<id>[!-~]{1,32}) "
    r'\[(?P<data>entobot@32473(?: [!-<>-\\^-~]{1,32}="(?:[^"\\\]]|\\["\\\]]|\\)*")*)\] \ufeff(?P<text>.*)'
)


def entry(**given: Any) -> Entry:
    values: dict[str, Any] = {
        "seq": 7,
        "audit_id": "aud_7",
        "at_ms": 1_790_000_000_000,
        "event": "device.revoked",
        "outcome": "success",
        "actor": Actor("usr_1", "dev_1"),
        "subject": "dev_2",
        "facts": {"by": "owner"},
        "commitments": {},
        "previous": bytes(32),
        "hash": bytes(32),
    }
    return Entry(**(values | given))


@pytest.mark.parametrize(
    ("outcome", "priority"), [("success", 13 * 8 + 5), ("denied", 13 * 8 + 4), ("failure", 13 * 8 + 3)]
)
def test_a_message_is_what_rfc_5424_says(outcome: str, priority: int) -> None:
    found = RFC5424.fullmatch(syslog(entry(outcome=outcome), None, "gate.example"))
    assert found is not None
    assert int(found["priority"]) == priority
    assert (found["at"], found["host"], found["app"], found["id"]) == (
        "2026-09-21T14:13:20.000Z", "gate.example", "entobot", "device.revoked",
    )  # fmt: skip
    assert 'seq="7"' in found["data"]
    assert json.loads(found["text"]) == {"by": "owner"}


def test_nobody_writes_a_message_of_their_own() -> None:
    subject = 'x"] evil\n<0>1 - - - - - -\\'
    message = syslog(entry(subject=subject, facts={"reason": "a\nb"}, event="e" * 60), None, "a host\n")
    assert "\n" not in message
    found = RFC5424.fullmatch(message)
    assert found is not None
    assert found["host"] == "ahost"
    assert 'subject="x\\"\\] evil\\u000a<0>1 - - - - - -\\\\"' in found["data"]


async def test_a_syslog_server_gets_all_of_it_although_it_goes_away_in_between(log: Log, tmp_path: Path) -> None:
    server = await SyslogServer(tmp_path, asks_for_certificate=True).start()
    certificate, key = server.certificate, tmp_path / "receiver.key"
    one = sender(
        log,
        format="syslog",
        url=f"tls://127.0.0.1:{server.port}",
        authority=certificate,
        certificate=certificate,
        key=key,
    )
    try:
        await log.record(400)
        await drained(one)
        await server.until(400)
        await server.stop()
        await log.record(100)
        with pytest.raises(SinkFailed, match=r"reached|closed"):  # the end of a connection is seen by then
            await steps(one, 3)
        await server.start()
        await drained(one)
        await server.until(400 + 400 + 100)
    finally:
        await one.outlet.sink.close()
        await server.stop()
    assert server.faults == []
    assert all(RFC5424.fullmatch(message) for message in server.messages)
    numbers = [int(found[1]) for message in server.messages if (found := re.search(r' seq="(\d+)"', message))]
    assert set(numbers) == set(range(1, 501))
    assert numbers[:400] == list(range(1, 401))


async def test_what_a_receiver_that_stalled_and_broke_off_never_read_is_sent_again(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its system took more than its program: a cursor that moved with the socket's buffer left them out for ever."""
    monkeypatch.setattr(sink_syslog, "SEND_S", 0.5)
    server = await SyslogServer(tmp_path).start()
    one = sender(log, format="syslog", url=f"tls://127.0.0.1:{server.port}", authority=server.certificate)
    try:
        server.stalls_after = 10
        await log.record(3000)
        with pytest.raises(SinkFailed):
            await drained(one)
        assert len(server.messages) == 10
        await server.stop()
        for _ in range(3):  # to try again must not go further and further back
            with pytest.raises(SinkFailed):
                await one.step()
        server.stalls_after = None
        await server.start()
        await drained(one)
        numbers = {int(found[1]) for one in await server.until(3010) if (found := re.search(r' seq="(\d+)"', one))}
        assert numbers == set(range(1, 3001))
        assert len(server.messages) < 2 * 3000 + 10
    finally:
        await one.outlet.sink.close()
        await server.stop()


async def test_a_syslog_server_of_another_authority_gets_nothing(log: Log, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    server, other = await SyslogServer(tmp_path).start(), SyslogServer(tmp_path / "other")
    one = sender(log, format="syslog", url=f"tls://127.0.0.1:{server.port}", authority=other.certificate)
    try:
        await log.record(1)
        with pytest.raises(SinkFailed, match="CERTIFICATE_VERIFY_FAILED"):
            await one.step()
    finally:
        await server.stop()
    assert server.messages == []


# -- OCSF

REQUIRED = ("activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid")
OF_CLASS = {
    Class.ACCOUNT_CHANGE: ("user",),
    Class.API_ACTIVITY: ("actor", "api", "src_endpoint"),
    Class.APPLICATION_LIFECYCLE: ("app",),
    Class.AUTHENTICATION: ("user",),
    Class.ENTITY_MANAGEMENT: ("entity",),
}
"""Required attributes of OCSF 1.3 (https://schema.ocsf.io/1.3.0/classes)."""
ACTIVITIES = {
    Class.ACCOUNT_CHANGE: {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 99},
    Class.API_ACTIVITY: {1, 2, 3, 4, 99},
    Class.APPLICATION_LIFECYCLE: {1, 2, 3, 4, 99},
    Class.AUTHENTICATION: {1, 2, 3, 4, 5, 99},
    Class.ENTITY_MANAGEMENT: {1, 2, 3, 4, 99},
}


@pytest.mark.parametrize("event", AuditEvent)
@pytest.mark.parametrize("actor", [None, Actor("usr_1", "dev_1"), Actor("usr_1", None)])
@pytest.mark.parametrize("subject", ["", "usr_2", "dev_2"])
def test_every_event_has_what_its_class_requires(event: AuditEvent, actor: Actor | None, subject: str) -> None:
    line = ocsf(entry(event=str(event), actor=actor, subject=subject), None, version="1", host="gate")
    assert "\n" not in line
    told = json.loads(line)
    kind = Class(told["class_uid"])
    assert set(REQUIRED + OF_CLASS[kind]) <= told.keys()
    assert told["category_uid"] == kind // 1000
    assert told["activity_id"] in ACTIVITIES[kind]
    assert told["type_uid"] == kind * 100 + told["activity_id"]
    assert told["metadata"]["product"]["vendor_name"]
    assert told["metadata"]["version"] == "1.3.0"
    assert (told["metadata"]["sequence"], told["metadata"]["uid"]) == (7, "aud_7")
    for name in ("user", "entity"):
        assert name not in told or told[name]["uid"]


@pytest.mark.parametrize(
    ("event", "kind", "activity"),
    [
        ("session.opened", 3002, 1), ("session.ended", 3002, 2), ("user.disabled", 3001, 5), ("device.paired", 3004, 1),
        ("device.revoked", 3004, 4), ("approval.requested", 6003, 1), ("gateway.started", 6002, 3), ("new.thing", 3004, 99),
    ],
)  # fmt: skip
def test_events_mean_what_the_schema_calls_so(event: str, kind: int, activity: int) -> None:
    found = meaning(event)
    assert (found.kind, found.activity) == (kind, activity)


@pytest.mark.parametrize(("outcome", "status"), [(Outcome.SUCCESS, 1), (Outcome.DENIED, 2), (Outcome.FAILURE, 2)])
def test_an_outcome_is_a_status(outcome: Outcome, status: int) -> None:
    assert json.loads(ocsf(entry(outcome=str(outcome)), None, version="1", host="g"))["status_id"] == status
