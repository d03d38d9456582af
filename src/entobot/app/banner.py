"""What a person sees when the gateway has started."""

import sys

from entobot import __version__
from entobot.app.gateway import Gateway
from entobot.app.posture import find_weak_points


def banner(gateway: Gateway, setup: str = "") -> str:
    """Address, agent, and what is not ideal about the set-up with the way to fix it.

    `setup` tells an owner who never signed in how to; on a terminal it holds a one-time link, and nothing else here is
    secret.
    """
    ground = gateway.ground
    lines = [
        "",
        f"Entobot {__version__} is running.",
        f"  Address  {ground.origin}",
        f"  Data     {ground.home.path}",
        f"  Agent    {gateway.bot.choice.model or gateway.bot.choice.runner_kind}. {gateway.bot.choice.why}",
    ]
    lines += [f"  Set up   {setup}"] if setup else []
    weak = find_weak_points(gateway)
    if weak:
        lines += ["", "Not ideal:"]
        lines += [f"  · {point.what}\n    {point.fix}" for point in weak]
    lines += ["", "Stop with Ctrl-C."]
    return "\n".join(lines) + "\n"


async def setup_hint(gateway: Gateway) -> str:
    """How the owner gets into the dashboard, as long as they have no way to sign in; else empty.

    The link itself goes to a terminal only: what a service manager reads ends in a log.
    """
    links = gateway.sign_in.links
    if not sys.stdout.isatty():
        return "entobot users link owner   (a link to the dashboard)" if await links.is_first_due() else ""
    made = await links.make_first()
    if made is None:
        return ""
    return f"{gateway.ground.origin}/admin#link={made.secret}\n           10 minutes, once; 'entobot users link owner' makes another."
