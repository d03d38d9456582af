"""The certificate that is served while the gateway runs for longer than the certificate lives."""

from datetime import timedelta
from pathlib import Path

from entobot.app.gateway import Gateway
from entobot.config import Settings
from entobot.core.clock import SystemClock
from entobot.core.secrets import SystemEntropy
from entobot.home import Home
from entobot.telemetry.exposition import expose
from entobot.web.certificates import Machine, ensure_local_tls
from tests.support.process import free_port

MACHINE = Machine(("localhost",), ("127.0.0.1",))
NAME = "entobot_certificate_end_timestamp_seconds "


async def end_s(gateway: Gateway) -> float:
    text = (await expose(gateway.ground.meters, ""))[0].decode()
    (line,) = [line for line in text.splitlines() if line.startswith(NAME)]
    return float(line.removeprefix(NAME))


async def test_the_metric_tells_when_the_certificate_ends_and_moves_when_it_is_replaced(tmp_path: Path) -> None:
    clock, entropy, port = SystemClock(), SystemEntropy(), free_port()
    tls = ensure_local_tls(tmp_path / "given", MACHINE, clock.now_ms(), entropy)
    settings = Settings.model_validate(
        {
            "gateway": {"host": "127.0.0.1", "port": port, "public_url": f"https://127.0.0.1:{port}"},
            "tls": {"mode": "given", "certificate": tls.files.certificate, "key": tls.files.key},
            "agent": {"runner": "echo"},
        }
    )
    gateway = await Gateway.open(Home(tmp_path / "home"), settings, {}, {}, clock=clock, entropy=entropy)
    await gateway.start()
    try:
        assert await end_s(gateway) == tls.leaf.not_valid_after_utc.timestamp()
        later_ms = clock.now_ms() + round(timedelta(days=80) / timedelta(milliseconds=1))
        renewed = ensure_local_tls(tmp_path / "given", MACHINE, later_ms, entropy)
        assert renewed.leaf.not_valid_after_utc > tls.leaf.not_valid_after_utc
        await gateway._renew_certificate()
        assert await end_s(gateway) == renewed.leaf.not_valid_after_utc.timestamp()
    finally:
        await gateway.stop()
