"""The audit log beyond the gateway: a receiver misses nothing when it is killed, and files are verified without it."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.process import GatewayProcess
from tests.support.receivers import HttpReceiver


async def test_a_receiver_has_every_entry_although_the_gateway_is_killed_again_and_again(tmp_path: Path) -> None:
    receiver = await HttpReceiver().start()
    sinks = [
        {"name": "siem", "format": "jsonl", "url": f"http://127.0.0.1:{receiver.port}/"},
        {"name": "anchor", "format": "checkpoint", "url": f"file://{tmp_path}/anchors"},
    ]
    given = {"ENTOBOT_AUDIT__SINKS": json.dumps(sinks), "ENTOBOT_AUDIT__CHECKPOINT_EVERY": "1"}
    gateway = GatewayProcess(tmp_path / "home", environment=given)
    try:
        for round_ in range(3):
            receiver.answers = [503] * round_
            await asyncio.to_thread(gateway.start)
            await receiver.until(len(receiver.lines) + 1)
            await asyncio.to_thread(gateway.kill)
        await asyncio.to_thread(gateway.start)
        rows = await asyncio.to_thread(gateway.ask, "audit", "list", "--limit", "500")
        wanted = {(row["seq"], row["audit_id"]) for row in rows}
        while not wanted <= (had := {(one["seq"], one["audit_id"]) for one in map(json.loads, receiver.lines)}):
            await receiver.until(len(receiver.lines) + 1)
        assert len({seq for seq, _ in had}) == len(had), "one entry under each number"
        assert (await asyncio.to_thread(gateway.ask, "audit", "verify"))["ok"]
    finally:
        await asyncio.to_thread(gateway.close)
        await receiver.stop()
    assert (tmp_path / "anchors").stat().st_size > 0


def alone(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The program on a machine that has no gateway and no data folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ENTOBOT_")}
    return subprocess.run(
        [sys.executable, "-m", "entobot", "--home", "/nonexistent", "audit", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_was_exported_is_verified_on_another_machine(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "home").start()
    try:
        anchor = gateway.ask("audit", "checkpoint")
        file, table = tmp_path / "audit.jsonl", tmp_path / "audit.csv"
        for path in (file, table):
            done = gateway.cli("audit", "export", str(path), "--format", path.suffix[1:])
            assert done.returncode == 0, done.stderr
        walked = gateway.cli("audit", "verify")
        assert "whole and in order" in walked.stdout
    finally:
        gateway.close()
    assert table.read_text().startswith("seq,at,event")
    assert file.stat().st_mode & 0o777 == 0o600
    note, key = tmp_path / "note", tmp_path / "key"
    note.write_text(anchor["note"])
    key.write_text(anchor["key"] + "\n")
    good = alone("verify", str(file), "--key", str(key), "--checkpoint", str(note), "--json")
    told = json.loads(good.stdout)
    assert (good.returncode, told["ok"], told["anchored"], told["fault"]) == (0, True, anchor["size"], None)
    assert told["signed"] == told["last"] == told["entries"] > anchor["size"]
    file.write_text(file.read_text().replace("gateway.started", "gateway.stopped", 1))
    bad = alone("verify", str(file), "--key", anchor["key"])
    assert bad.returncode == 1
    assert "NOT GOOD" in bad.stdout
    assert "(edited)" in bad.stdout
    assert alone("verify", str(tmp_path / "nothing")).returncode == 2
    assert alone("verify", str(file), "--checkpoint", str(note)).returncode == 2
    assert alone("verify", str(file), "--key", "nonsense").returncode == 2
