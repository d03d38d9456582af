"""The unit: systemd accepts it, it exposes little, and the gateway works under its system-call rules."""

import asyncio
import re
import shlex
import sys
from pathlib import Path

from tests.support.fake_openai import KEY, FakeOpenAI, Text
from tests.support.operator import Operator
from tests.support.phone import connected
from tests.support.process import GENEROUS_S, ROOT, GatewayProcess
from tests.support.programs import program, run

FOLDER = ROOT / "deploy" / "systemd"
UNIT = FOLDER / "entobot.service"
INSTALLED = "/usr/local/lib/entobot/bin/entobot"
MAX_EXPOSURE = "14"
"""Tenths: what remains is the network, no list of addresses, and that a backup lowers its own priority."""


def values(name: str, text: str | None = None) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", text or UNIT.read_text(), re.MULTILINE)


def installed(folder: Path) -> Path:
    """The unit as it stands on a server, with a program that is there."""
    unit = folder / "entobot.service"
    unit.write_text(UNIT.read_text().replace(INSTALLED, str(Path(sys.executable).with_name("entobot"))))
    return unit


def test_systemd_accepts_the_unit_and_its_drop_in(tmp_path: Path) -> None:
    analyze, unit = program("systemd-analyze", "systemd"), installed(tmp_path)
    found = run([analyze, "verify", "--man=no", unit])
    assert (found.returncode, found.stdout) == (0, "")
    drop_in = (FOLDER / "entobot.service.d" / "postgresql.conf").read_text()
    merged = unit.read_text().replace("[Install]", drop_in.partition("[Service]\n")[2] + "\n[Install]")
    unit.write_text(merged)
    found = run([analyze, "verify", "--man=no", unit])
    assert (found.returncode, found.stdout) == (0, "")
    unit.write_text(merged.replace("ProtectSystem=strict", "ProtectSystem=very"))
    assert "Failed to parse" in run([analyze, "verify", "--man=no", unit]).stdout, "a wrong line is seen"


def test_the_unit_exposes_little(tmp_path: Path) -> None:
    command = [program("systemd-analyze", "systemd"), "security", "--offline=true", f"--threshold={MAX_EXPOSURE}"]
    found = run([*command, installed(tmp_path)])
    assert found.returncode == 0, found.stdout
    weaker = installed(tmp_path)
    weaker.write_text(weaker.read_text().replace("SystemCallFilter=", "#"))
    assert run([*command, weaker]).returncode != 0


def test_the_user_of_the_unit_is_the_one_that_sysusers_makes() -> None:
    line = (FOLDER / "entobot.sysusers.conf").read_text().splitlines()[-1]
    kind, name, _, _, home, _ = shlex.split(line)
    assert (kind, [name], [name]) == ("u", values("User"), values("Group"))
    assert f"ENTOBOT_HOME={home}" in values("Environment")[0].split()
    assert Path(home).name in values("StateDirectory")[0].split()


def environment(credentials: Path, home: Path) -> dict[str, str]:
    """The variables of the unit, where `credentials` stands for what systemd makes of LoadCredential."""
    pairs = [pair for line in values("Environment") for pair in line.split()]
    named = dict(pair.split("=", 1) for pair in pairs)
    return {
        key: text.replace("%d", str(credentials)).replace("/var/lib/entobot", str(home)) for key, text in named.items()
    }


def confined(folder: Path, key: str, **more: str) -> GatewayProcess:
    """`ExecStart` with the unit's environment, under its SystemCallFilter and MemoryDenyWriteExecute."""
    program("systemd-analyze", "systemd")
    assert values("ExecStart") == [f"{INSTALLED} up"]
    assert values("SetCredential") == ["model-key:\\n"]
    credentials = folder / "credentials"
    credentials.mkdir()
    (credentials / "model-key").write_text(key)
    return GatewayProcess(
        folder / "home",
        environment=environment(credentials, folder / "home") | more,
        launcher=(sys.executable, "-m", "tests.support.confined", str(UNIT)),
        program=(str(Path(sys.executable).with_name("entobot")),),
    ).start()


def ended_well(gateway: GatewayProcess) -> None:
    assert gateway.process is not None
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    assert gateway.stop() == 0
    log = gateway.log.read_text()
    assert "Operation not permitted" not in log
    assert "Traceback" not in log


async def test_what_the_unit_starts_works_under_its_rules(tmp_path: Path) -> None:
    gateway = await asyncio.to_thread(confined, tmp_path, "\n")
    try:
        device = await asyncio.to_thread(Operator(gateway).pair)
        async with connected(gateway, device) as phone:
            await phone.say("!note milk")
            asked = (await phone.until_event("approval.requested"))["data"]
            await asyncio.to_thread(device.decide, asked, "approve")
            await phone.until_event("RUN_FINISHED")
        assert "milk" in await asyncio.to_thread((gateway.home / "workspace" / "notes.txt").read_text)
        await asyncio.to_thread(ended_well, gateway)
    finally:
        gateway.close()


async def test_with_a_key_it_asks_the_model_under_the_same_rules(tmp_path: Path) -> None:
    async with FakeOpenAI(Text(["from the model"])) as server:
        more = {"ENTOBOT_AGENT__BASE_URL": server.base_url}
        gateway = await asyncio.to_thread(lambda: confined(tmp_path, f"{KEY}\n", **more))
        try:
            device = await asyncio.to_thread(Operator(gateway).pair)
            async with connected(gateway, device) as phone:
                await phone.say("hello")
                await phone.until_event("RUN_FINISHED")
            assert len(server.requests) == 1
            await asyncio.to_thread(ended_well, gateway)
        finally:
            gateway.close()


async def test_it_makes_backups_under_the_same_rules(tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    await asyncio.to_thread(folder.mkdir)
    told = await asyncio.to_thread(GatewayProcess(tmp_path / "no").cli, "backup", "key", str(tmp_path / "key"))
    recipient = re.findall(r"age1[0-9a-z]+", told.stdout)[0]
    more = {
        "ENTOBOT_BACKUP__EVERY": "P1D",
        "ENTOBOT_BACKUP__FOLDER": str(folder),
        "ENTOBOT_BACKUP__RECIPIENTS": recipient,
    }
    gateway = await asyncio.to_thread(lambda: confined(tmp_path, "\n", **more))
    try:
        async with asyncio.timeout(GENEROUS_S):
            while "backup." not in (log := await asyncio.to_thread(gateway.log.read_text)):  # noqa: ASYNC110  another process writes it
                await asyncio.sleep(0.1)
        assert '"event": "backup.made"' in log, log
        await asyncio.to_thread(ended_well, gateway)
    finally:
        gateway.close()
