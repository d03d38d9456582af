"""TCP and TLS to a gateway that proves to hold the pinned key. Nothing is said before that; nothing goes out in clear."""

import gc
import socket
import sys
import time

from .pin import pin_of

ON_BOARD = sys.implementation.name == "micropython"
CONNECT_S = 10
READ_BYTES = 1024
WRITE_MS = 10000


class WrongKey(OSError):  # noqa: N818  it says what happened
    """Whoever answered does not hold the key that the settings name."""


def open_link(host: str, port: int, pin: str) -> "Link":
    """Waits for TCP and TLS, `CONNECT_S` for each step. Raises OSError, and MemoryError where there is no room."""
    if ON_BOARD:
        gc.collect()  # TLS wants memory in one piece
    address = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)[0]
    plain = socket.socket(address[0], address[1], address[2])
    try:
        plain.settimeout(CONNECT_S)
        plain.connect(address[-1])
        secure = (_wrap_on_board if ON_BOARD else _wrap)(plain, host, pin)
    except Exception as error:
        plain.close()
        if isinstance(error, (OSError, MemoryError)):
            raise
        raise OSError("TLS: " + str(error)) from None
    secure.setblocking(False)
    return Link(secure, plain)


def _wrap_on_board(plain, host, pin):
    import tls

    found = []

    def check(certificate, depth):
        if depth:
            return 0
        found.append(pin_of(certificate))
        return 0 if found[0] == pin else -1

    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.verify_mode = tls.CERT_OPTIONAL  # the pin decides, not a chain: boards know neither authorities nor time
    context.verify_callback = check
    try:
        secure = context.wrap_socket(plain, server_hostname=host)
    except OSError:
        if found and found[0] != pin:
            raise WrongKey("the gateway has the key " + found[0]) from None
        raise
    if found != [pin]:
        raise WrongKey("the gateway's key was not checked")
    return secure


def _wrap(plain, host, pin):
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the pin decides
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    secure = context.wrap_socket(plain, server_hostname=host)
    found = pin_of(secure.getpeercert(True) or b"")
    if found != pin:
        secure.close()
        raise WrongKey("the gateway has the key " + found)
    return secure


class Link:
    """Bytes both ways. `read` never waits; `write` waits at most `WRITE_MS`. Both raise OSError when it is over."""

    def __init__(self, secure, plain) -> None:
        self._secure = secure
        self._plain = plain

    def read(self) -> "bytes | None":
        """What is there; None where nothing is."""
        data = self._secure.read(READ_BYTES) if ON_BOARD else _read(self._secure)
        if data == b"":
            raise OSError("the gateway ended the connection")
        return data

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        for _ in range(WRITE_MS // 5):
            count = self._secure.write(rest) if ON_BOARD else _write(self._secure, rest)
            if count:
                rest = rest[count:]
                if not len(rest):
                    return
            else:
                time.sleep(0.005)
        raise OSError("the gateway does not read")

    def close(self) -> None:
        for one in (self._secure, self._plain):
            try:
                one.close()
            except OSError:
                pass


def _read(secure) -> "bytes | None":
    import ssl

    try:
        return secure.recv(READ_BYTES)
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return None


def _write(secure, data) -> int:
    import ssl

    try:
        return secure.send(data)
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return 0
