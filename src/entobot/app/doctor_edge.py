"""What `entobot doctor` looks at where there is an edge: whether its passwords can be read, and it lets the gateway in."""

import asyncio

from entobot.app.edge_line import EdgeLine
from entobot.config_edge import EdgeSettings

HOW = "docs/how-to/mqtt-edge.md"


def trouble(settings: EdgeSettings) -> tuple[str, str] | None:
    """What is wrong, and what to do; None where the edge is as it should be. Blocks, for some seconds."""
    for path in (settings.password_file, settings.system_password_file):
        assert path is not None, "the settings see to it"
        try:
            if not path.read_text(encoding="utf-8").strip():
                return f"{path} is empty.", f"Write the password into it: {HOW}."
            mode = path.stat().st_mode & 0o777
        except (OSError, UnicodeDecodeError) as error:
            said = error.strerror if isinstance(error, OSError) else "no text"
            return f"{path} cannot be read: {said}.", "It must belong to the user that the gateway runs as."
        if mode & 0o077:
            return f"{path} is open to others ({mode:o}).", f"chmod 600 {path}"
    try:
        import nats  # noqa: F401  # pyright: ignore[reportUnusedImport]  asked for, so that the finding says what is missing
    except ImportError:
        return "The client of NATS is missing.", "pip install 'entobot[nats]'"
    try:
        asyncio.run(_try(settings))
    except Exception as error:  # noqa: BLE001  whatever its library says
        said = f"{type(error).__name__}: {error}"[:200]
        return f"{settings.url} does not let the gateway in: {said}", f"Look at edge.url and that server's log: {HOW}."
    return None


async def _try(settings: EdgeSettings) -> None:
    """As the gateway does, both accounts; raises where one of them may not do what it must."""
    line = EdgeLine(settings)
    try:
        await line.open()
        await line.connections()
    finally:
        await line.close()
