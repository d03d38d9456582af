"""`entobot` that moves its signing keys on at SIGUSR1, as it does after 90 days: `python -m tests.rigs.rotating up …`."""

import asyncio
import signal

from entobot.__main__ import main
from entobot.app import up
from entobot.app.gateway import Gateway


class RotatingGateway(Gateway):
    async def start(self) -> None:
        await super().start()
        loop = asyncio.get_running_loop()
        moves: set[asyncio.Task[bool]] = set()
        loop.add_signal_handler(
            signal.SIGUSR1, lambda: moves.add(loop.create_task(self.devices.rotate_keys_if_due(force=True)))
        )


if __name__ == "__main__":
    up.Gateway = RotatingGateway
    main()
