"""A receiver of webhooks on loopback: keeps what comes, answers as it is told."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue


@dataclass(frozen=True)
class Posted:
    path: str
    headers: dict[str, str]
    body: bytes


class Hook:
    def __init__(self, port: int) -> None:
        self.origin = f"http://127.0.0.1:{port}"
        self.posted: Queue[Posted] = Queue()
        self.answers: list[int] = []
        """The next ones, then 204."""


@contextmanager
def hook() -> Generator[Hook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(made.answers.pop(0) if made.answers else 204)
            self.end_headers()
            made.posted.put(Posted(self.path, headers, body))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  a name of the library's
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Hook(server.server_port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
