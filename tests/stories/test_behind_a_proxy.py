"""The configurations of docs/how-to/behind-a-proxy.md, with the real nginx and HAProxy where they are installed."""

import asyncio
import re
import ssl
from pathlib import Path

import httpx

from entobot.client.device import Device
from entobot.core.clock import SystemClock
from entobot.core.secrets import SystemEntropy
from entobot.web.certificates import LocalTls, Machine, ensure_local_tls
from tests.support.operator import INVITES, Operator
from tests.support.phone import connected
from tests.support.process import GENEROUS_S, ROOT, GatewayProcess, free_port
from tests.support.programs import program, running

PAGE = ROOT / "docs" / "how-to" / "behind-a-proxy.md"
CALLER = "127.0.0.9"
"""Loopback has many addresses: this one is the phone's, 127.0.0.1 the proxy's."""
NGINX = """
daemon off; error_log stderr; pid {folder}/nginx.pid;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    {site}
}}
"""


def documented(name: str) -> str:
    found = re.search(rf"<!-- test: {name} -->\n```\w+\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


class Behind(GatewayProcess):
    """A gateway whose phones come through a proxy at `front`."""

    def __init__(self, home: Path, front: int, tls: LocalTls | None, **settings: str) -> None:
        named = {f"ENTOBOT_{name.upper()}": value for name, value in settings.items()}
        super().__init__(home, environment=named)
        self.address = self.origin = f"https://127.0.0.1:{front}"
        self.environment["ENTOBOT_GATEWAY__PUBLIC_URL"] = self.origin
        self.tls = tls

    def http(self) -> httpx.Client:
        transport = httpx.HTTPTransport(verify=self.trust(), local_address=CALLER)
        client = httpx.Client(base_url=self.origin, transport=transport, timeout=GENEROUS_S)
        self._clients.append(client)
        return client

    def trust(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority = self.home.parent / "front" / "ca.crt" if self.tls is not None else self.home / "tls" / "ca.crt"
        context.load_verify_locations(authority)
        return context


def front_tls(folder: Path) -> LocalTls:
    machine = Machine(("localhost",), ("127.0.0.1",))
    return ensure_local_tls(folder / "front", machine, SystemClock().now_ms(), SystemEntropy())


async def everything_works(gateway: Behind) -> None:
    """Pair, chat over the WebSocket and read events, all through the proxy; the caller's own address is seen."""
    operator = Operator(gateway)
    invite = await asyncio.to_thread(operator.invite)
    device = gateway.new_device()
    claim = await asyncio.to_thread(operator.claim, device, invite)
    row = await asyncio.to_thread(operator.local.request, "GET", f"{INVITES}/{invite['invite_id']}")
    assert row["claim"]["address"] == CALLER
    await asyncio.to_thread(operator.confirm, invite, claim)
    assert await asyncio.to_thread(device.collect, claim["claim_id"])
    async with connected(gateway, device) as phone:
        await phone.say("through the proxy")
        await phone.until_event("RUN_FINISHED")
    await asyncio.to_thread(events_come_at_once, device)


def events_come_at_once(device: Device) -> None:
    with device.events() as frames:
        assert next(frames)["type"] == "ready", "it came although the answer goes on"


async def test_nginx_as_documented(tmp_path: Path) -> None:
    nginx, front, tls = program("nginx"), free_port(), front_tls(tmp_path)
    gateway = Behind(tmp_path / "home", front, tls, tls__mode="off", gateway__trusted_proxies="127.0.0.1")
    site = documented("nginx").replace("listen 443 ssl", f"listen 127.0.0.1:{front} ssl")
    site = site.replace("127.0.0.1:18790", f"127.0.0.1:{gateway.port}").replace("entobot.example.org", "127.0.0.1")
    site = site.replace("/etc/ssl/entobot.pem", str(tls.files.certificate)).replace(
        "/etc/ssl/entobot.key", str(tls.files.key)
    )
    (tmp_path / "nginx.conf").write_text(NGINX.format(folder=tmp_path, site=site))
    try:
        await asyncio.to_thread(gateway.start)
        with running([nginx, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path), "-e", "stderr"], front):
            await everything_works(gateway)
    finally:
        gateway.close()


async def test_haproxy_as_documented(tmp_path: Path) -> None:
    haproxy, front, tls = program("haproxy"), free_port(), front_tls(tmp_path)
    gateway = Behind(tmp_path / "home", front, tls, tls__mode="off", gateway__trusted_proxies="127.0.0.1")
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(tls.files.certificate.read_bytes() + tls.files.key.read_bytes())
    text = documented("haproxy").replace("bind :443", f"bind 127.0.0.1:{front}")
    text = text.replace("/etc/ssl/entobot.pem", str(bundle)).replace("127.0.0.1:18790", f"127.0.0.1:{gateway.port}")
    (tmp_path / "haproxy.cfg").write_text(text)
    try:
        await asyncio.to_thread(gateway.start)
        with running([haproxy, "-db", "-f", str(tmp_path / "haproxy.cfg")], front):
            await everything_works(gateway)
    finally:
        gateway.close()


async def test_a_balancer_with_the_proxy_protocol_as_documented(tmp_path: Path) -> None:
    haproxy, front = program("haproxy"), free_port()
    gateway = Behind(
        tmp_path / "home", front, None, gateway__trusted_proxies="127.0.0.1", gateway__proxy_protocol="true"
    )
    text = documented("haproxy-tcp").replace("bind :443", f"bind 127.0.0.1:{front}")
    (tmp_path / "haproxy.cfg").write_text(text.replace("10.0.0.7:18790", f"127.0.0.1:{gateway.port}"))
    try:
        await asyncio.to_thread(gateway.start)
        with running([haproxy, "-db", "-f", str(tmp_path / "haproxy.cfg")], front):
            await everything_works(gateway)
    finally:
        gateway.close()
