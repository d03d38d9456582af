"""A certificate authority that speaks ACME: Pebble, with the DNS server that it looks names up in. Both are real."""

import json
import os
import ssl
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from entobot.core.clock import SystemClock
from entobot.core.secrets import SystemEntropy
from entobot.web.certificates import Machine, ensure_local_tls
from tests.support.process import GENEROUS_S, free_port
from tests.support.programs import program, running

NAME = "gateway.example.test"


@dataclass(frozen=True)
class Authority:
    """`directory` is trusted by `ca_file`; `dns` sets records of the names that it looks up."""

    folder: Path
    directory: str
    ca_file: Path
    management: str
    dns: str

    def root(self) -> ssl.SSLContext:
        """Trusts what this authority issues, and nothing else."""
        trust = ssl.create_default_context(cafile=str(self.ca_file))
        pem = httpx.get(f"{self.management}/roots/0", verify=trust, timeout=GENEROUS_S).text
        return ssl.create_default_context(cadata=pem)

    def set_dns(self, what: str, **record: Any) -> None:
        httpx.post(f"{self.dns}/{what}", json=record, timeout=GENEROUS_S).raise_for_status()

    def hook(self) -> Path:
        """A program as `acme.dns_hook` wants one, for this DNS server. It notes how it was called."""
        path = self.folder / "hook"
        path.write_text(
            f"""#!{sys.executable} -I
import json, sys, urllib.request
with open({str(self.folder / "hook.log")!r}, "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
verb, name, value = sys.argv[1:]
body = json.dumps({{"host": name + ".", "value": value}}).encode()
path = {{"add": "set-txt", "remove": "clear-txt"}}[verb]
urllib.request.urlopen(urllib.request.Request({self.dns!r} + "/" + path, body)).close()
"""
        )
        path.chmod(0o700)
        return path

    def hook_calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.folder / "hook.log").read_text().splitlines()]


@contextmanager
def pebble(
    folder: Path,
    *,
    http_port: int,
    tls_port: int,
    life_s: int = 90 * 86_400,
    account: tuple[str, str] | None = None,
    **environment: str,
) -> Generator[Authority]:
    """It checks names at these ports of this machine. `account`: the external one that it wants, id and key."""
    folder.mkdir(parents=True)
    tls = ensure_local_tls(
        folder / "own", Machine(("localhost",), ("127.0.0.1",)), SystemClock().now_ms(), SystemEntropy()
    )
    port, management, dns, dns_management = (free_port() for _ in range(4))
    config = {
        "listenAddress": f"127.0.0.1:{port}",
        "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(tls.files.certificate),
        "privateKey": str(tls.files.key),
        "httpPort": http_port,
        "tlsPort": tls_port,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": account is not None,
        "externalAccountMACKeys": {} if account is None else dict([account]),
        "certificateValidityPeriod": life_s,
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": config}))
    names = [program("pebble-challtestsrv", "pebble"), "-management", f"127.0.0.1:{dns_management}", "-defaultIPv6", ""]
    names += ["-dns01", f"127.0.0.1:{dns}", "-http01", "", "-https01", "", "-tlsalpn01", ""]
    command = [program("pebble"), "-config", str(folder / "pebble.json"), "-dnsserver", f"127.0.0.1:{dns}"]
    settings = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0", "PEBBLE_WFE_NONCEREJECT": "20"}
    with ExitStack() as stack:
        stack.enter_context(running(names, dns_management, log=folder / "dns.log"))
        stack.enter_context(
            running(command, port, environment={**os.environ, **settings, **environment}, log=folder / "pebble.log")
        )
        yield Authority(
            folder,
            f"https://127.0.0.1:{port}/dir",
            folder / "own" / "ca.crt",
            f"https://127.0.0.1:{management}",
            f"http://127.0.0.1:{dns_management}",
        )
