"""One request over HTTPS, for what is done once: the time, and enrolling."""

import json

ANSWER_BYTES = 8192
POLL_MS = 10
WITHIN_MS = 15000


class Refusal(OSError):  # noqa: N818  it says what happened
    """What the gateway answered. `status` is that of HTTP, `code` the protocol's."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__("{} {}: {}".format(status, code, detail))
        self.status = status
        self.code = code


def ask(open_link, clock, settings, method: str, path: str, body: "dict | None" = None, headers: str = "") -> dict:
    """The answer's JSON. Raises OSError, Refusal for an answer that is none of 2xx."""
    sent = b"" if body is None else json.dumps(body).encode()
    head = "{} {} HTTP/1.1\r\nHost: {}:{}\r\nConnection: close\r\n{}".format(
        method, path, settings.host, settings.port, headers
    )
    if body is not None:
        head += "Content-Type: application/json\r\nContent-Length: {}\r\n".format(len(sent))
    link = open_link(settings.host, settings.port, settings.pin)
    try:
        link.write((head + "\r\n").encode() + sent)
        status, answer = _read(link, clock)
    finally:
        link.close()
    try:
        said = json.loads(answer)
    except ValueError:
        said = {}
    if not isinstance(said, dict):
        raise OSError("an answer that is none")
    if not 200 <= status < 300:
        raise Refusal(status, said.get("code", ""), said.get("detail", ""))
    return said


def _read(link, clock) -> "tuple[int, bytes]":
    """Status and body, of an answer that says its length."""
    got = b""
    until = clock.ms() + WITHIN_MS
    while True:
        end = got.find(b"\r\n\r\n")
        if end >= 0:
            size = _length(got[:end])
            if len(got) >= end + 4 + size:
                return status_of(got), got[end + 4 : end + 4 + size]
        data = link.read()
        if data is None:
            if clock.ms() > until:
                raise OSError("no answer over HTTPS")
            clock.sleep(POLL_MS)
            continue
        got += data
        if len(got) > ANSWER_BYTES:
            raise OSError("an answer that is too long")


def status_of(head: bytes) -> int:
    try:
        return int(head[9:12])
    except ValueError:
        raise OSError("an answer that is none") from None


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            try:
                return int(value)
            except ValueError:
                break
    raise OSError("an answer without a length")
