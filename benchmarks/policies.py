"""What policies cost a publish: `python -m benchmarks.policies` prints publishes a second without any and with ten."""

import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.support.board import Board, mqtt_environment
from tests.support.process import ROOMY, GatewayProcess
from tests.support.thing import Thing

MESSAGES = 3000
ROUNDS = 3
POLICIES = 10
TEXT = (
    'permit (principal is Device, action == Action::"subscribe", resource is Device)\n'
    'when {{ principal.type == "t{n}" && resource.owner == principal.owner && context.topic like "telemetry/*" }};\n'
    'forbid (principal, action == Action::"publish", resource)\n'
    'when {{ principal.tags.contains("quiet{n}") && context.topic like "event*" }};\n'
)


def rate(board: Board) -> float:
    done, left = threading.Event(), [MESSAGES]

    def acknowledged(*_: object) -> None:
        left[0] -= 1
        if not left[0]:
            done.set()

    board.client.on_publish = acknowledged
    begun = time.perf_counter()
    for number in range(MESSAGES):
        board.client.publish(f"{board.root}/event/{number % 50}", b"x" * 64, qos=1)
    if not done.wait(120):
        raise SystemExit("the gateway does not answer")
    return MESSAGES / (time.perf_counter() - begun)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        gateway = GatewayProcess(Path(folder) / "home", environment=mqtt_environment() | ROOMY).start()
        board = Board(gateway, Thing.make(gateway, "Board"))
        board.client.max_inflight_messages_set(200)
        board.client.max_queued_messages_set(0)
        board.opened()
        rate(board)
        found: dict[int, list[float]] = {0: [], POLICIES: []}
        try:
            for _ in range(ROUNDS):
                found[0].append(rate(board))
                for n in range(POLICIES):
                    file = Path(folder) / f"p{n}.cedar"
                    file.write_text(TEXT.format(n=n))
                    gateway.ask("policy", "add", str(file))
                rate(board)
                found[POLICIES].append(rate(board))
                for n in range(POLICIES):
                    gateway.ask("policy", "remove", f"p{n}")
        finally:
            board.disconnect()
            gateway.close()
    without, with_them = max(found[0]), max(found[POLICIES])
    sys.stdout.write(
        f"{without:,.0f} publishes/s without policies, {with_them:,.0f} with {POLICIES}: {with_them / without:.2f}\n"
    )


if __name__ == "__main__":
    main()
