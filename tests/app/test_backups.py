"""The gateway makes its backups by itself, keeps some, and says when there is none."""

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from entobot.app.backups import Backups, LastBackup, LastRestore, complaint, read_last, write_last
from entobot.backup import age
from entobot.config import BackupSettings
from entobot.core.clock import SystemClock
from entobot.core.errors import StartupRefused
from entobot.home import Home
from entobot.sources import load
from entobot.telemetry.meters import Meters
from entobot.telemetry.metrics import Metric
from tests.support.process import GatewayProcess
from tests.support.time import ManualClock

HOUR_MS = 3600_000
DAILY = BackupSettings(every=timedelta(days=1), folder=Path("/backups"), recipients=("age1x",))
NONE = BackupSettings()


def made(hours_ago: int, now_ms: int) -> LastBackup:
    return LastBackup("/backups/one.age", now_ms - hours_ago * HOUR_MS, 1, "0001", was_verified=True)


@pytest.mark.parametrize(
    ("settings", "hours_ago", "days_installed", "said"),
    [
        (NONE, None, 6, ""),
        (NONE, None, 8, "no backup of this gateway, which is 8 days old"),
        (NONE, 6 * 24, 99, ""),
        (NONE, 8 * 24, 99, "8 days old: /backups/one.age"),
        (DAILY, None, 0, ""),
        (DAILY, None, 3, "no backup"),
        (DAILY, 24, 99, ""),
        (DAILY, 26, 99, "26 hours old"),
    ],
)
def test_what_is_said_of_the_last_backup(
    settings: BackupSettings, hours_ago: int | None, days_installed: int, said: str
) -> None:
    now_ms = 10**12
    last = None if hours_ago is None else made(hours_ago, now_ms)
    found = complaint(last, settings, timedelta(days=days_installed), now_ms)
    assert said in found
    assert bool(said) == bool(found)


def test_for_a_week_it_is_said_that_this_is_a_restored_backup() -> None:
    restore = LastRestore(restored_at_ms=10**12, made_at_ms=10**12 - HOUR_MS)
    assert "restored backup of 2001-09-09T00:46:40.000Z" in restore.note(10**12 + 7 * 24 * HOUR_MS)
    assert restore.note(10**12 + 7 * 24 * HOUR_MS + 1) == ""


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway whose settings ask for backups into `backups`; not started."""
    (tmp_path / "backups").mkdir()
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    recipient = age.text_of(age.new_identity()[1])
    (home / "entobot.toml").write_text(
        f'[backup]\nevery = "PT1H"\nkeep = 2\nfolder = "{tmp_path / "backups"}"\nrecipients = ["{recipient}"]\n'
    )
    (home / "entobot.toml").chmod(0o600)
    process = GatewayProcess(home)
    yield process
    process.close()


def watched(gateway: GatewayProcess) -> tuple[Backups, ManualClock, Meters]:
    """The gateway's own part, by a clock in hand; the process that it starts has the system's."""
    meters, clock, home = Meters(), ManualClock(SystemClock().now_ms()), Home(gateway.home)
    return Backups(home, load(home.path, {}).backup, clock, meters), clock, meters


def count(meters: Meters, outcome: str) -> float:
    return meters.counter(Metric.BACKUPS, outcome=outcome).value


@pytest.fixture
def stopped(installed: GatewayProcess, monkeypatch: pytest.MonkeyPatch) -> GatewayProcess:
    """It ran once, without making a backup."""
    installed.environment["ENTOBOT_BACKUP__EVERY"] = "0"
    installed.start().stop()
    monkeypatch.setenv("PYTHONPATH", installed.environment["PYTHONPATH"])
    return installed


async def test_one_is_made_when_it_is_due_and_the_oldest_of_this_gateway_are_deleted(
    stopped: GatewayProcess, tmp_path: Path
) -> None:
    folder = tmp_path / "backups"
    other = folder / "entobot-OTHERONE-20200101T000000000Z.tar.age"
    other.write_text("another gateway's")
    backups, clock, meters = watched(stopped)
    await backups.make_if_due()
    first = {path for path in folder.iterdir() if path != other}
    assert len(first) == 1
    assert backups.complaint() == ""
    await backups.make_if_due()
    assert {path for path in folder.iterdir() if path != other} == first, "it is not due"
    (folder / next(iter(first)).name.join((".", ".123"))).write_text("of one that was killed")
    for _ in range(2):
        clock.advance(2 * 3600)  # an hour more than due: a backup is dated when it is made, by the real clock
        await backups.make_if_due()
    left = {path for path in folder.iterdir() if path != other}
    assert len(left) == 2, left
    assert not first & left
    assert other.exists()
    assert (count(meters, "ok"), count(meters, "failed")) == (3, 0)
    last = read_last(Home(stopped.home))
    assert last is not None
    assert (last.file, last.was_verified) == (str(max(left)), True)


async def test_a_failure_is_said_counted_and_tried_again_after_a_while(stopped: GatewayProcess, tmp_path: Path) -> None:
    (tmp_path / "backups").rename(tmp_path / "unplugged")
    backups, clock, meters = watched(stopped)
    await backups.make_if_due()
    assert "There is no folder" in backups.complaint()
    await backups.make_if_due()
    assert count(meters, "failed") == 1
    (tmp_path / "unplugged").rename(tmp_path / "backups")
    clock.advance(15 * 60)
    await backups.make_if_due()
    assert (count(meters, "failed"), count(meters, "ok")) == (1, 1)
    assert backups.complaint() == ""


def test_a_gateway_that_runs_makes_one_and_everybody_can_see_it(installed: GatewayProcess, tmp_path: Path) -> None:
    installed.start()
    while 'entobot_backups_total{outcome="ok"} 1.0' not in (shown := installed.cli("metrics", "--raw").stdout):
        assert installed.process is not None
    assert "entobot_backup_age_seconds " in shown
    (file,) = (tmp_path / "backups").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    findings = {one["name"]: one for one in json.loads(installed.cli("doctor", "--json").stdout)}
    assert findings["backup"]["level"] == "ok"
    assert str(file) in findings["backup"]["detail"]
    installed.stop()
    last = read_last(Home(installed.home))
    assert last is not None
    write_last(Home(installed.home), msgspec.structs.replace(last, made_at_ms=last.made_at_ms - 30 * HOUR_MS))
    findings = {one["name"]: one for one in json.loads(installed.cli("doctor", "--json").stdout)}
    assert (findings["backup"]["level"], "30 hours old" in findings["backup"]["detail"]) == ("warning", True)


def test_the_banner_says_that_an_old_installation_has_no_backup(installed: GatewayProcess) -> None:
    installed.environment["ENTOBOT_BACKUP__EVERY"] = "0"
    installed.start().stop()
    assert "backup" not in installed.banner
    long_ago_s = SystemClock().now_ms() / 1000 - 9 * 86400
    os.utime(installed.home / "keys" / "server.key", (long_ago_s, long_ago_s))
    installed.start()
    assert "There is no backup of this gateway, which is 9 days old." in installed.banner


@pytest.mark.parametrize(
    "wrong", ['every = "PT1H"', 'every = "PT1H"\nfolder = "/backups"', 'recipients = ["ssh-ed25519 AAAA"]', "keep = 0"]
)
def test_a_schedule_that_could_not_be_kept_is_refused(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "entobot.toml").write_text(f"[backup]\n{wrong}\n")
    with pytest.raises(StartupRefused, match="backup"):
        load(tmp_path, {})
