"""Runner adapter for gateways on which nobody answers; only a run that somebody else began comes here."""

from collections.abc import AsyncIterator

from entobot.agents.runner import RunErrorCode, RunFailed, TurnEnd, TurnEvent, TurnRequest


class NobodyRunner:
    """See `Runner`."""

    name = "none"

    async def turn(self, request: TurnRequest) -> AsyncIterator[TurnEvent]:
        del request
        raise RunFailed(RunErrorCode.AGENT_NOT_READY, "Nobody answers here: agent.runner is 'none'.")
        yield TurnEnd("", (), "")  # makes it an iterator

    async def close(self) -> None:
        """Nothing is held."""
