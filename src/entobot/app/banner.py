"""What a person sees when the gateway has started."""

from entobot import __version__
from entobot.app.gateway import Gateway
from entobot.app.posture import find_weak_points


def banner(gateway: Gateway) -> str:
    """Address, agent, and what is not ideal about the set-up with the way to fix it. Holds no secret."""
    ground = gateway.ground
    lines = [
        "",
        f"Entobot {__version__} is running.",
        f"  Address  {ground.origin}",
        f"  Data     {ground.home.path}",
        f"  Agent    {gateway.choice.model or gateway.choice.runner_kind}. {gateway.choice.why}",
    ]
    weak = find_weak_points(gateway)
    if weak:
        lines += ["", "Not ideal:"]
        lines += [f"  · {point.what}\n    {point.fix}" for point in weak]
    lines += ["", "Stop with Ctrl-C."]
    return "\n".join(lines) + "\n"
