"""A part in a network of its own: a namespace with one cable to this machine, whose packets nft drops as told."""

import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import cache

_TABLE = "inet faults"


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
def network(name: str) -> Generator[Network]:
    """Made for the time of the context."""
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
