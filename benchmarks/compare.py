"""Ours beside others, in one run; kept for the plots."""

import time

import uvloop

from benchmarks import crowd, peers, references, results, start, turns
from benchmarks import messages as message_load
from benchmarks.peers import install, measure_nanobot, measure_openclaw
from benchmarks.rig import Figure, running_gateway

FANOUT_SIZES = (1_000, 2_500, 5_000)
SMALL_SIZES = (500, 1_500, 4_500)
ROUNDS = 9


def idle(sizes: tuple[int, ...]) -> list[Figure]:
    plain, plain_points = crowd.idle(sizes, has_tls=False)
    tls, tls_points = crowd.idle(sizes, has_tls=True)
    lines: dict[str, list[tuple[int, float]]] = {"entobot": plain_points, "entobot, TLS": tls_points}
    for name in references.REFERENCES:
        with references.running(name) as server:
            lines[name] = uvloop.run(references.idle_kib(server, SMALL_SIZES))
    results.keep("compare", {"idle": lines})
    return [*plain, *tls]


def storms(count: int, fillers: tuple[int, ...]) -> list[Figure]:
    found, points = crowd.storms(count, fillers)
    results.keep("compare", {"storm": {"entobot": points}})
    return found


def messages() -> list[Figure]:
    found, points = message_load.figures()
    results.keep("compare", {"messages": {"entobot": points}})
    return found


def fanout() -> None:
    lines: dict[str, list[tuple[int, float]]] = {"entobot": [(n, crowd.fanout(n) * 1000) for n in FANOUT_SIZES]}
    for name in references.REFERENCES:
        lines[name] = []
        for connections in FANOUT_SIZES:
            with references.running(name) as server:
                took = uvloop.run(references.last_delivery_s(server, connections, ROUNDS))
            lines[name].append((connections, took * 1000))
    results.keep("compare", {"fanout": lines})
    for name, points in lines.items():
        print(name, [f"{connections}: {took:.1f} ms" for connections, took in points], flush=True)


def gateways() -> None:
    """Start, memory and turn of ours, nanobot and OpenClaw."""
    for name, (took, size) in install().items():
        print(f"{name}: installed in {took:.0f} s, {size:.0f} MB", flush=True)
    nanobot, openclaw = measure_nanobot(), measure_openclaw()
    with running_gateway(ENTOBOT_AGENT__RUNNER="echo") as gateway:
        time.sleep(peers.SETTLE_S)
        assert gateway.process is not None
        ours_mb = start.resident_mb(gateway.process.pid)
    turn = turns.with_model(0)[0]
    found = {
        "start": {
            "entobot": start.start_to_health_s(),
            "nanobot": nanobot["start_s"],
            "OpenClaw": openclaw["start_s"],
        },
        "memory": {"entobot": ours_mb, "nanobot": nanobot["idle_mb"], "OpenClaw": openclaw["idle_mb"]},
        "turn": {"entobot": results.number(turn.measured), "nanobot": nanobot["turn_s"] * 1000},
    }
    results.keep("compare", found)
    for name, values in found.items():
        print(name, values, flush=True)


def main() -> None:
    fanout()
    gateways()
