"""A transcription service on loopback, in a thread: it checks what it is sent, as the real ones do, and answers as told."""

import email.parser
import email.policy
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

KEY = "sk-voice-0123456789"
PATH = "/v1/audio/transcriptions"


@dataclass
class Heard:
    """One request: its fields, and the recording."""

    fields: dict[str, str]
    filename: str
    media_type: str
    audio: bytes


@dataclass
class Transcriptions:
    """`heard` is what was asked. `status` and `body` replace the answer; `redirect` sends the caller elsewhere."""

    text: str = "hello"
    status: int = 200
    body: bytes | None = None
    redirect: str = ""
    heard: list[Heard] = field(default_factory=list[Heard])
    refused: list[str] = field(default_factory=list[str])
    release: threading.Event | None = None
    """Waited for before the answer."""

    def __enter__(self) -> Self:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
                del format, args

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = service._answer(self.path, self.headers, body)
                self.send_response(status)
                if service.redirect:
                    self.send_header("Location", service.redirect)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.release is not None:
            self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def _answer(self, path: str, headers: Any, body: bytes) -> tuple[int, bytes]:
        if path != PATH or headers["Authorization"] != f"Bearer {KEY}":
            self.refused.append(f"{path} {headers['Authorization']}")
            return 401, b'{"error": {"message": "SECRET-PROVIDER-TEXT"}}'
        head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
        form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        fields: dict[str, str] = {}
        heard = None
        for part in form.iter_parts():
            name = str(part.get_param("name", header="content-disposition"))
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            if name == "file":
                heard = Heard(fields, str(part.get_filename()), part.get_content_type(), content)
            else:
                fields[name] = content.decode()
        if heard is None or not fields.get("model"):
            return 400, b'{"error": {"message": "SECRET-PROVIDER-TEXT"}}'
        self.heard.append(heard)
        if self.release is not None:
            self.release.wait(30)
        return self.status, json.dumps({"text": self.text}).encode() if self.body is None else self.body
