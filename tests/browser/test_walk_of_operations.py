"""docs/operate/walk.md, done: its blocks are run by bash below a scratch folder, its people are browsers and a phone."""

import asyncio
import base64
import hmac
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from playwright.sync_api import expect

from entobot.client.device import Device
from entobot.client.proofs import parse_pairing_url
from tests.browser.conftest import NewWindow
from tests.browser.test_admin import add_passkey, with_authenticator
from tests.browser.window import DESKTOP, PHONE, Window
from tests.deploy.test_proxies import NGINX, replaced
from tests.deploy.test_systemd import environment
from tests.support.phone import connected
from tests.support.process import GENEROUS_S, ROOT, GatewayProcess, free_port
from tests.support.programs import program, run, running

PAGE = (ROOT / "docs" / "operate" / "walk.md").read_text("utf-8")
PLACES = (
    "/usr/local/lib/entobot",
    "/usr/lib/sysusers.d",
    "/etc/systemd",
    "/etc/entobot",
    "/etc/nginx",
    "/var/lib/",
    "/var/backups/",
)
"""Paths of the server that the page names; here they lie below the scratch folder."""
STAND_INS = {
    "install": 'given=(); while (($#)); do case $1 in -o|-g) shift 2;; *) given+=("$1"); shift;; esac; done\n'
    'exec /usr/bin/install "${given[@]}"',
    "journalctl": ":",
    "nginx": ":",
    "sudo": 'shift 2; exec env "$@"',
    "systemctl": ":",
    "systemd-sysusers": 'exec "$SYSUSERS" --root="$SCRATCH"',
}
"""What a test may not do to this machine. `sudo` stays who it is; files keep their owner."""
NAME = "https://entobot.example.org"
HOOK = "https://hooks.example.org/entobot"
OUTSIDE = re.compile(r"(?<![\w./-])/(?:etc|root|usr/lib|usr/local|var)/")
"""What would be a place of this machine."""


def block(name: str) -> str:
    found = re.search(rf"<!-- walk: {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found, name
    return found[1]


class Hook:
    """Somebody's webhook on this machine: takes what is signed with the secret, and nothing else."""

    def __init__(self, secret: Path) -> None:
        self.arrived: Queue[dict[str, Any]] = Queue()
        hook = self

        class Taking(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + body
                key = base64.b64decode(secret.read_text().removeprefix("whsec_"))
                wanted = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
                is_ours = self.headers["webhook-signature"] == f"v1,{wanted}"
                if is_ours:
                    hook.arrived.put(json.loads(body))
                self.send_response(204 if is_ours else 401)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
        self.url = f"http://127.0.0.1:{self._server.server_port}/entobot"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def until(self, wanted: str) -> None:
        """Wait for a message that has `wanted` in it."""
        while wanted not in json.dumps(self.arrived.get(timeout=GENEROUS_S)):
            pass

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Fronted(GatewayProcess):
    """Reached through nginx, whose certificate is the one that the browsers trust."""

    authority = Path()

    def trust(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.authority)
        return context


class Server:
    """A scratch folder that stands for the root of a server, and the gateway that its unit starts."""

    def __init__(self, scratch: Path, tls: Path) -> None:
        self.scratch = scratch
        self.tls = tls
        self.port, self.front = free_port(), free_port()
        self.origin = f"https://localhost:{self.front}"
        self.shims = scratch / "stand-ins"
        self.calls = scratch / "calls"
        self.shims.mkdir()
        for place in ("etc", "var/backups"):
            (scratch / place).mkdir(parents=True)
        for name, does in STAND_INS.items():
            file = self.shims / name
            file.write_text(f'#!/bin/bash\necho "{name} $*" >> "{self.calls}"\n{does}\n')
            file.chmod(0o755)
        self._gateways: list[GatewayProcess] = []
        self.hook = Hook(scratch / "etc" / "entobot-webhook.secret")

    def placed(self, text: str) -> str:
        for place in PLACES:
            text = text.replace(place, f"{self.scratch}{place}")
        assert not OUTSIDE.search(text), text
        return text

    def path(self, place: str) -> Path:
        return Path(self.placed(place))

    def do(self, name: str, **words: str) -> str:
        """Run a block of the page. Fails at the first command that does; returns what was printed."""
        text = replaced(block(name), **words)
        lines = [line for line in text.splitlines() if "/bin/pip install" not in line]
        lines = [re.sub(r"-m venv\b", "-m venv --without-pip", line) for line in lines]
        script = f"set -euo pipefail\n{self.placed(block('shell'))}\n{self.placed(chr(10).join(lines))}\n"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=ROOT,
            env={
                **os.environ,
                "PATH": f"{self.shims}:{os.environ['PATH']}",
                "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
                "SCRATCH": str(self.scratch),
                "SSL_CERT_FILE": str(self.tls / "ca.crt"),
                "SYSUSERS": shutil.which("systemd-sysusers") or "/bin/false",
                "ENTOBOT_GATEWAY__PORT": str(self.port),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=4 * GENEROUS_S,
            check=False,
        )
        assert done.returncode == 0, (name, done.stdout, done.stderr)
        return done.stdout

    def start(self) -> GatewayProcess:
        """`ExecStart` of the installed unit, its environment and credential, under its system-call filter."""
        unit = self.path("/etc/systemd/system/entobot.service")
        entobot = re.findall(r"^ExecStart=(\S+) up$", unit.read_text(), re.MULTILINE)[0]
        credentials = self.scratch / "credentials"
        credentials.mkdir(exist_ok=True)
        key = credentials / "model-key"
        key.unlink(missing_ok=True)
        key.write_text("\n")
        key.chmod(0o400)  # as systemd makes it, for the unit's user alone
        home = self.path("/var/lib/entobot")
        process = Fronted(
            home,
            port=self.port,
            environment=environment(credentials, home),
            launcher=(sys.executable, "-m", "tests.support.confined", str(unit)),
            program=(entobot,),
        )
        for name in ("ENTOBOT_ALERTS__EVERY", "ENTOBOT_GATEWAY__HOST", "ENTOBOT_GATEWAY__PUBLIC_URL"):
            del process.environment[name]  # they stand in the file, or are as they come
        process.address = process.origin = self.origin
        process.authority = self.tls / "ca.crt"
        process.log = self.scratch / "gateway.log"
        self._gateways.append(process)
        return process.start()

    def close(self) -> None:
        for one in self._gateways:
            one.close()
        self.hook.close()


@pytest.fixture
def server(tmp_path: Path, tls_folder: Path) -> Iterator[Server]:
    program("systemd-analyze", "systemd")
    program("nginx")
    one = Server(tmp_path, tls_folder)
    yield one
    one.close()


def install(server: Server) -> None:
    server.do("install")
    entobot = server.path("/usr/local/lib/entobot/bin/entobot")
    entobot.write_text(f"#!{sys.executable}\nimport sys\nfrom entobot.__main__ import main\nsys.exit(main())\n")
    entobot.chmod(0o755)
    unit = server.path("/etc/systemd/system/entobot.service")
    unit.write_text(server.placed(unit.read_text()))
    assert "entobot:" in (server.scratch / "etc" / "passwd").read_text()
    settings = server.path("/var/lib/entobot/entobot.toml")
    settings.write_text(server.placed(replaced(block("settings"), **{NAME: server.origin, HOOK: server.hook.url})))
    settings.chmod(0o600)
    assert "right" in server.do("check")


def configured(server: Server) -> list[str]:
    """The site that the page put in place, with this server's name and certificate; checked by nginx."""
    server.do("nginx")
    site = server.path("/etc/nginx/sites-enabled/entobot.conf")
    words = {
        "listen 443 ssl": f"listen 127.0.0.1:{server.front} ssl",
        "listen 80": f"listen 127.0.0.1:{free_port()}",
        "    listen [::]:80;\n": "",
        "    listen [::]:443 ssl;\n": "",
        "proxy_pass http://127.0.0.1:18790": f"proxy_pass http://127.0.0.1:{server.port}",
        "entobot.example.org": "localhost",
        "/etc/ssl/entobot.pem": str(server.tls / "leaf.crt"),
        "/etc/ssl/entobot.key": str(server.tls / "leaf.key"),
    }
    whole = server.scratch / "nginx.conf"
    whole.write_text(NGINX.format(folder=server.scratch, site=replaced(site.read_text(), **words)))
    command = [program("nginx"), "-c", str(whole), "-p", str(server.scratch), "-e", "stderr"]
    checked = run([*command, "-t"])
    assert checked.returncode == 0, checked.stdout
    return command


def links(said: str) -> list[str]:
    return re.findall(r"https://\S+", said)


def signs_in(window: Window, link: str, passkey: str) -> Window:
    with_authenticator(window).page.goto(link)
    window.button("Sign in with this link").click()
    add_passkey(window, passkey)
    return window


def pairs_carol(owner: Window, phone: Device) -> None:
    """From the dialog of the dashboard; the phone is a program with a key of its own."""
    owner.open("/admin/invites")
    owner.page.get_by_role("main").get_by_role("button", name="Pair a device").click()
    owner.page.get_by_label("Whose device").select_option(label="Carol (carol@example.org)")
    owner.button("Make an invite").click()
    link = owner.page.get_by_label("Pairing link").inner_text()
    given = parse_pairing_url(link)
    claim = phone.claim(
        secret=given["s"], invite_id=given["i"], device_name="Carol's phone", platform="web", app_version="1"
    )
    owner.page.get_by_label("The six digits that the phone shows").fill(claim["confirmation_code"])
    with owner.page.expect_response("**/confirm"):
        owner.button("Pair it").click()
    assert phone.collect(claim["claim_id"])
    owner.sees("Carol's phone is paired.")


async def _talks(gateway: GatewayProcess, phone: Device, text: str) -> None:
    async with connected(gateway, phone) as carol:
        await carol.say(text)
        await carol.until_event("RUN_FINISHED")


def says(gateway: GatewayProcess, phone: Device, text: str) -> None:
    """In a thread: the browser's library keeps this one's event loop."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, _talks(gateway, phone, text)).result(GENEROUS_S)


def test_the_walk_from_install_to_restore(server: Server, new_window: NewWindow) -> None:
    install(server)
    command = configured(server)
    server.do("start")
    gateway = server.start()
    assert gateway.banner.rstrip().endswith("Stop with Ctrl-C.")
    with running(command, server.front):
        owner = signs_in(new_window(gateway, DESKTOP), links(server.do("owner"))[0], "Laptop")
        server.do("people")
        alice_link, bob_link = links(server.do("links"))
        alice = signs_in(new_window(gateway, DESKTOP), alice_link, "Alice's laptop")
        bob = signs_in(new_window(gateway, PHONE), bob_link, "Bob's phone")
        alice.open("/admin/people")
        expect(alice.button("Add a person")).to_be_visible()
        bob.open("/admin/people")
        bob.sees(re.compile("does not hold the permission “users.manage”"))
        phone = gateway.new_device()
        pairs_carol(owner, phone)
        says(gateway, phone, "before")

        server.hook.until("person_raised")
        told = server.do("told")
        server.hook.until("alert.test")
        assert "owner or an admin" in told
        watched = server.do("watch")
        assert "posture:" in watched
        assert watched.count("user.added") == 3
        assert "user.added" in server.path("/var/lib/entobot-backups/audit.jsonl").read_text()

        recipient = re.findall(r"age1[0-9a-z]+", server.do("key"))[0]
        server.do("backup", **{"age1…": recipient})
        gateway.stop()
        server.do("lose")
        assert not gateway.home.exists()
        owner.page.reload()
        expect(owner.page.get_by_text("502 Bad Gateway").first).to_be_visible()

        server.do("restore")
        gateway = server.start()
        after = server.do("after")
        assert "Carol's phone" in after
        assert "FAIL" not in after
        phone.refresh()  # by itself in the app: tokens of before are void
        says(gateway, phone, "after")
        for window, passkey in ((owner, "Laptop"), (alice, "Alice's laptop"), (bob, "Bob's phone")):
            window.open("/admin")
            window.button("Sign in with a passkey").click()
            expect(window.button("Sign in with a passkey")).to_have_count(0)
            window.open("/admin/you")
            expect(window.button(f"Remove the passkey {passkey}")).to_be_visible()
    called = server.calls.read_text().splitlines()
    assert [call for call in called if call.startswith("systemctl")] == [
        "systemctl reload nginx",
        "systemctl daemon-reload",
        "systemctl enable --now entobot",
        "systemctl stop entobot",
        "systemctl start entobot",
    ]
