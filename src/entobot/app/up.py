"""`entobot up`: run the gateway in this process until it is told to stop."""

import asyncio
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress

from entobot.app.banner import banner, setup_hint
from entobot.app.gateway import Gateway
from entobot.client.console import Place, hint
from entobot.core.clock import SystemClock
from entobot.core.secrets import SystemEntropy
from entobot.home import Home
from entobot.sources import load_layers, system_environment
from entobot.telemetry.log import configure
from entobot.telemetry.recent_log import RecentLog
from entobot.web.endpoints import raise_file_limit


def run(place: Place, overrides: Mapping[str, Mapping[str, object]], *, pair: bool) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. Raises StartupRefused."""
    environment = system_environment()
    home = Home(place.home)
    layers = load_layers(home.path, environment, overrides)
    clock = SystemClock()
    logging = layers.settings().log
    recent = RecentLog()
    configure(clock, logging.level, logging.format, recent=recent)
    raise_file_limit()

    async def main() -> None:
        gateway = await Gateway.open(home, layers, environment, clock=clock, entropy=SystemEntropy(), recent_log=recent)
        await gateway.start()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _stop_once, loop, stop)
        if not sys.stdin.isatty() and gateway.certificates.source is not None:
            # at a terminal SIGHUP means that it was closed
            loop.add_signal_handler(signal.SIGHUP, gateway.certificates.ask)
        sys.stdout.write(banner(gateway, await setup_hint(gateway)))
        sys.stdout.flush()
        if pair:
            _pair_in_terminal(place)
        await stop.wait()
        hint("\nStopping …")
        await gateway.stop()

    with suppress(KeyboardInterrupt):
        _runner().run(main())
    return 0


def _stop_once(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """A second signal ends the process where it stands: what was acknowledged is committed."""
    stop.set()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)


def _runner() -> asyncio.Runner:
    try:
        import uvloop
    except ImportError:
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def _pair_in_terminal(place: Place) -> None:
    """The same pairing as `entobot pair`, over the local socket, beside the running gateway."""
    from entobot.pairing.cli import pair_in_terminal

    threading.Thread(target=pair_in_terminal, args=(place,), name="pairing", daemon=True).start()
