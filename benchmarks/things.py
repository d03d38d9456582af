"""How many readings a second one node takes, and what each costs: `python -m benchmarks.things [boards] [seconds]`.

Boards publish `telemetry/temperature` by QoS 1 over plain MQTT on loopback, each with 16 under way; then the same in
batches of 100. For comparison the same messages below a topic that is not read. CPU is the gateway's own, by the kernel.
"""

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from entobot.mqtt.codec import Framer, encode
from entobot.mqtt.packets import Connect, Publish, Version
from tests.support.process import ROOMY, GatewayProcess, free_port
from tests.support.thing import Thing

UNDER_WAY = 16
BATCH = 100


class Board:
    def __init__(self, thing: Thing, port: int) -> None:
        self.thing = thing
        self.port = port
        self.acknowledged = 0
        self._sent = 0

    def message(self, kind: str) -> Publish:
        self._sent += 1
        root, number = f"devices/{self.thing.device_id}", self._sent % 60_000 + 1
        if kind == "batch":
            rows = ",".join(f'{{"name":"temperature","value":{n},"age_ms":{n}}}' for n in range(BATCH))
            payload = f'{{"batch":"{self._sent}","readings":[{rows}]}}'.encode()
            return Publish(f"{root}/telemetry", payload, 1, packet_id=number)
        topic = "telemetry/temperature" if kind == "reading" else "other/temperature"
        return Publish(f"{root}/{topic}", b"21.5", 1, packet_id=number)

    async def run(self, kind: str, end_s: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        device_id, key = self.thing.device_id, self.thing.api_key.encode()
        writer.write(encode(Connect(Version.V3, device_id, True, 60, device_id, key), Version.V3))
        framer = Framer(65536)
        framer.feed(await reader.readexactly(4))
        for _ in range(UNDER_WAY):
            writer.write(encode(self.message(kind), Version.V3))
        while time.perf_counter() < end_s:
            count = len(framer.feed(await reader.read(65536)))
            self.acknowledged += count
            for _ in range(count):
                writer.write(encode(self.message(kind), Version.V3))
        writer.close()


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(boards: list[Board], kind: str, seconds: float, pid: int) -> None:
    for one in boards:
        one.acknowledged = 0
    begun, cpu = time.perf_counter(), cpu_s(pid)
    await asyncio.gather(*(one.run(kind, begun + seconds) for one in boards))
    spent, messages = time.perf_counter() - begun, sum(one.acknowledged for one in boards)
    used, each = cpu_s(pid) - cpu, BATCH if kind == "batch" else 1
    readings = messages * each
    print(
        f"{kind:8} {messages / spent:8.0f} messages/s {readings / spent:8.0f} readings/s {used / readings * 1e6:7.1f} µs of CPU each"
    )


def main() -> None:
    count, seconds = int((sys.argv[1:] or ["20"])[0]), float((sys.argv[2:] or ["5"])[0])
    port = free_port()
    environment = ROOMY | {
        "ENTOBOT_MQTT__ENABLED": "true",
        "ENTOBOT_MQTT__PORT": "0",
        "ENTOBOT_MQTT__PLAIN_PORT": str(port),
    }
    with tempfile.TemporaryDirectory() as folder:
        gateway = GatewayProcess(Path(folder) / "home", environment=environment).start()
        try:
            assert gateway.process is not None
            boards = [Board(Thing.make(gateway, f"Board {n}"), port) for n in range(count)]
            for kind in ("other", "reading", "batch"):
                asyncio.run(measure(boards, kind, seconds, gateway.process.pid))
        finally:
            gateway.close()


if __name__ == "__main__":
    main()
