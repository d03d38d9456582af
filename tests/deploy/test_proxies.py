"""The configurations of deploy/ and of docs/how-to/behind-a-proxy.md, with the real nginx, Caddy and HAProxy."""

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
from tests.support.programs import program, run, running

DEPLOY = ROOT / "deploy"
PAGE = ROOT / "docs" / "how-to" / "behind-a-proxy.md"
CALLER = "127.0.0.9"
"""Loopback has many addresses: this one is the phone's, 127.0.0.1 the proxy's."""
CLAIMED = "203.0.113.7"
"""The address that every request says it came from."""
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
        claims = {"X-Forwarded-For": CLAIMED, "X-Real-IP": CLAIMED, "Forwarded": f"for={CLAIMED}"}
        client = httpx.Client(base_url=self.origin, transport=transport, timeout=GENEROUS_S, headers=claims)
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
    """Pair, chat over the WebSocket and read events, all through the proxy; the caller's own address is seen.

    The caller claims another one throughout.
    """
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


def without_tls(home: Path, front: int, tls: LocalTls) -> Behind:
    return Behind(home, front, tls, tls__mode="off", gateway__trusted_proxies="127.0.0.1")


def replaced(text: str, **words: str) -> str:
    """`text` with each of the words that a reader is told to replace. Fails when one is not there."""
    for old, new in words.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


async def test_nginx_as_it_comes(tmp_path: Path) -> None:
    nginx, front, plain, tls = program("nginx"), free_port(), free_port(), front_tls(tmp_path)
    gateway = without_tls(tmp_path / "home", front, tls)
    words = {
        "listen 443 ssl": f"listen 127.0.0.1:{front} ssl",
        "listen 80": f"listen 127.0.0.1:{plain}",
        "    listen [::]:80;\n": "",
        "    listen [::]:443 ssl;\n": "",
        "proxy_pass http://127.0.0.1:18790": f"proxy_pass http://127.0.0.1:{gateway.port}",
        "entobot.example.org": "127.0.0.1",
        "/etc/ssl/entobot.pem": str(tls.files.certificate),
        "/etc/ssl/entobot.key": str(tls.files.key),
    }
    site = replaced((DEPLOY / "nginx" / "entobot.conf").read_text(), **words)
    (tmp_path / "nginx.conf").write_text(NGINX.format(folder=tmp_path, site=site))
    command = [nginx, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path), "-e", "stderr"]
    checked = run([*command, "-t"])
    assert checked.returncode == 0, checked.stdout
    assert "[warn]" not in checked.stdout.replace('the "user" directive', ""), checked.stdout
    try:
        await asyncio.to_thread(gateway.start)
        with running(command, front):
            await everything_works(gateway)
            await asyncio.to_thread(too_much_is_refused, gateway)
            moved = await asyncio.to_thread(httpx.get, f"http://127.0.0.1:{plain}/pair")
            assert (moved.status_code, moved.headers["location"]) == (308, "https://127.0.0.1/pair")
    finally:
        gateway.close()


async def test_caddy_as_it_comes(tmp_path: Path) -> None:
    caddy, front, tls = program("caddy"), free_port(), front_tls(tmp_path)
    gateway = without_tls(tmp_path / "home", front, tls)
    shipped = DEPLOY / "caddy" / "Caddyfile"
    environment = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    checked = run([caddy, "validate", "--adapter", "caddyfile", "--config", shipped], environment)
    assert checked.returncode == 0, checked.stdout
    words = {
        "entobot.example.org {": f"https://127.0.0.1:{front} {{\n\ttls {tls.files.certificate} {tls.files.key}\n",
        "reverse_proxy 127.0.0.1:18790": f"reverse_proxy 127.0.0.1:{gateway.port}",
        "grace_period 5s": "grace_period 1s\n\tadmin off\n\tauto_https disable_redirects",
    }
    file = tmp_path / "Caddyfile"
    file.write_text(replaced(shipped.read_text(), **words))
    try:
        await asyncio.to_thread(gateway.start)
        command = [caddy, "run", "--adapter", "caddyfile", "--config", str(file)]
        with running(command, front, environment, tmp_path / "caddy.log"):
            await everything_works(gateway)
    finally:
        gateway.close()


def too_much_is_refused(gateway: Behind) -> None:
    answer = gateway.http().post("/api/v1/auth/pair", content=b"x" * 300_000)
    assert (answer.status_code, answer.headers["server"][:5]) == (413, "nginx"), "said by the proxy, not by the gateway"


async def test_haproxy_as_documented(tmp_path: Path) -> None:
    haproxy, front, tls = program("haproxy"), free_port(), front_tls(tmp_path)
    gateway = without_tls(tmp_path / "home", front, tls)
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
