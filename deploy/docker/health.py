"""Whether the gateway of this container can do its work: exit code 0 or 1. Asks over the local socket; no packages."""

import os
import socket
import sys
from pathlib import Path

TIMEOUT_S = 4


def status(path: Path) -> int:
    """The HTTP status of `GET /api/ready`. Raises OSError when nobody answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(str(path))
        connection.sendall(b"GET /api/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return int(connection.recv(64).split()[1])


def main() -> int:
    try:
        return 0 if status(Path(os.environ["ENTOBOT_HOME"]) / "gateway.sock") == 200 else 1  # noqa: TID251  HTTP's; a program of its own
    except (OSError, IndexError, ValueError):
        return 1


if __name__ == "__main__":
    sys.exit(main())
