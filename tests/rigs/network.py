"""A part in a network of its own: a namespace with one cable to this machine, whose packets nft drops as told."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

_TABLE = "inet faults"
_LAID = "TESTS_LAID_NETWORKS"


@cache
def missing() -> str | None:
    """What this machine lacks for networks of their own."""
    if os.geteuid() != 0:
        return "network faults need root, to make namespaces"
    for tool, package in (("ip", "iproute2"), ("nft", "nftables")):
        if shutil.which(tool) is None:
            return f"network faults need {tool} (Debian: {package})"
    try:
        with network("probe") as probe:
            probe.lose(1)
    except subprocess.CalledProcessError as error:
        return f"network faults need namespaces, veth and nft in the kernel: {error.stderr.strip()}"
    return None


class Network:
    """`inside` is the address of what runs by `launcher`; it reaches this machine at `outside`."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.launcher = ("ip", "netns", "exec", name)
        self.outside = f"10.213.{number}.1"
        self.inside = f"10.213.{number}.2"

    def cut_off(self, *ports: int) -> None:
        """Drop what goes to or comes from these TCP ports, at either end; nothing is closed or answered."""
        chosen = ", ".join(map(str, ports))
        self._rules(f"tcp dport {{ {chosen} }} drop", f"tcp sport {{ {chosen} }} drop")

    def cut_off_wholly(self) -> None:
        self._rules("iifname != lo drop", "oifname != lo drop", way=("input", "output"))

    def lose(self, percent: int) -> None:
        """Drop this share of the packets, each way."""
        self._rules(f"iifname != lo numgen random mod 100 < {percent} drop", way=("input",))
        self._rules(f"oifname != lo numgen random mod 100 < {percent} drop", way=("output",))

    def heal(self) -> None:
        with suppress(subprocess.CalledProcessError):
            self.run("nft", "delete", "table", *_TABLE.split())

    def run(self, *command: str) -> None:
        _run(*self.launcher, *command)

    def _rules(self, *rules: str, way: tuple[str, ...] = ("input", "output")) -> None:
        self.run("nft", "add", "table", *_TABLE.split())
        for hook in way:
            chain = f"{{ type filter hook {hook} priority 0 ; }}"
            self.run("nft", f"add chain {_TABLE} {hook} {chain}")
            for rule in rules:
                if not (hook == "input" and "oifname" in rule) and not (hook == "output" and "iifname" in rule):
                    self.run("nft", f"add rule {_TABLE} {hook} {rule}")


@contextmanager
def laid(count: int) -> Generator[None]:
    """
    Networks for as many tests at once, made before the first begins, where this machine can make any.

    A browser gives up its requests when an address comes to this machine or goes (ERR_NETWORK_CHANGED), so tests that
    run beside a browser's only take and return them.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ento-networks-")))
        with suppress(OSError, subprocess.CalledProcessError):
            for place in range(count):
                made = stack.enter_context(_made(f"laid-{place}"))
                (folder / f"{made.number}").write_text(made.name)
        os.environ[_LAID] = str(folder)
        stack.callback(os.environ.pop, _LAID)
        yield


@contextmanager
def network(name: str) -> Generator[Network]:
    """One that was laid and that nobody uses, else a new one for the time of the context."""
    with ExitStack() as stack:
        free = _taken(stack) or stack.enter_context(_made(name))
        stack.callback(free.heal)
        yield free


def _taken(stack: ExitStack) -> Network | None:
    for path in sorted(Path(os.environ[_LAID]).iterdir()) if _LAID in os.environ else ():
        file = stack.enter_context(path.open())
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return Network(file.read(), int(path.name))
    return None


@contextmanager
def _made(name: str) -> Generator[Network]:
    number = _new_cable()
    there, link = Network(f"ento-{os.getpid()}-{name}", number), f"ento{number}"
    try:
        _run("ip", "netns", "add", there.name)
        _run("ip", "link", "set", f"{link}b", "netns", there.name)
        _run("ip", "address", "add", f"{there.outside}/30", "dev", f"{link}a")
        _run("ip", "link", "set", f"{link}a", "up")
        there.run("ip", "address", "add", f"{there.inside}/30", "dev", f"{link}b")
        there.run("ip", "link", "set", f"{link}b", "up")
        there.run("ip", "link", "set", "lo", "up")
        there.run("ip", "route", "add", "default", "via", there.outside)
        yield there
    finally:
        with suppress(subprocess.CalledProcessError):
            _run("ip", "netns", "delete", there.name)
        with suppress(subprocess.CalledProcessError):
            _run("ip", "link", "delete", f"{link}a")


def _new_cable() -> int:
    """The first free number; making the cable takes it, whoever else looks for one."""
    for number in range(250):
        try:
            _run("ip", "link", "add", f"ento{number}a", "type", "veth", "peer", "name", f"ento{number}b")
        except subprocess.CalledProcessError as error:
            if "exists" not in error.stderr:
                raise
        else:
            return number
    raise AssertionError("250 networks are there already: ip link | grep ento")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
