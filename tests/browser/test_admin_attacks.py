"""A page of another origin, open in the browser of an owner who is signed in, tries every route of the gateway."""

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from entobot.core.access import ROUTES
from tests.browser.conftest import NewWindow
from tests.browser.test_admin_pages import gateway_with_devices, signed_in
from tests.browser.window import ask
from tests.support.operator import Operator
from tests.support.process import GatewayProcess

CHANGES_BY_ITSELF = ("user_sessions", "sign_in_challenges", "audit_checkpoints")
ATTACK = """async ([target, routes]) => {
  const seen = [];
  for (const [method, path] of routes) {
    for (const mode of ["cors", "no-cors"]) {
      const simple = ["GET", "POST"].includes(method);
      if (mode === "no-cors" && !simple) continue;
      const body = method === "GET" ? undefined : '{"login":"mallory","name":"Mallory","role":"owner"}';
      const type = mode === "cors" ? "application/json" : "text/plain";
      try {
        const answer = await fetch(target + path, { method, mode, credentials: "include", body, headers: body && { "Content-Type": type } });
        if (answer.type !== "opaque") seen.push(`${method} ${path} ${mode} ${answer.status} ${(await answer.text()).slice(0, 80)}`);
      } catch { /* not allowed to see it */ }
    }
  }
  for (const [, path] of routes.filter(([method]) => method === "POST")) {
    const frame = Object.assign(document.createElement("iframe"), { name: "f" + Math.random() });
    const form = Object.assign(document.createElement("form"), { action: target + path, method: "POST", target: frame.name, enctype: "text/plain" });
    form.append(Object.assign(document.createElement("input"), { name: '{"login":"mallory","name":"', value: '","role":"owner"}' }));
    document.body.append(frame, form);
    const done = new Promise((resolve) => frame.addEventListener("load", resolve, { once: true }));
    form.submit();
    await done;
    try { if (frame.contentDocument?.body.textContent) seen.push(`read ${path}`); } catch { /* another origin */ }
    frame.remove();
  }
  return seen;
}"""
__all__ = ["gateway_with_devices"]


class Hostile(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<!doctype html><title>Cats</title><body>"
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name for it
        del format, args


@pytest.fixture
def hostile(tls_folder: Path) -> Iterator[int]:
    """Its port, under certificates that the browser trusts: the worst case, the same site on another port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls_folder / "leaf.crt", tls_folder / "leaf.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_page_elsewhere_sees_nothing_and_changes_nothing(
    gateway_with_devices: GatewayProcess, new_window: NewWindow, hostile: int, host: str
) -> None:
    gateway = gateway_with_devices
    owner = signed_in(new_window, gateway)
    owner.may_lose_network = True
    operator = Operator(gateway)
    device = operator.local.request("GET", "/api/v1/devices")["rows"][0]
    known = {"user_id": device["user_id"], "device_id": device["device_id"]}
    routes = [
        (method, path.format_map(Names(known)))
        for method, _, path in (route.partition(" ") for route in ROUTES)
        if path != "/api/v1/events"
    ]
    before = operator.state(without=CHANGES_BY_ITSELF)
    page = owner.new_tab()
    page.goto(f"https://{host}:{hostile}/")
    parts = [routes[start : start + 50] for start in range(0, len(routes), 50)]
    seen = [one for part in parts for one in ask(page, ATTACK, [gateway.origin, part])]
    public = (
        "/api/health",
        "/api/ready",
        "/.well-known/jwks.json",
        "/ca.",
        "/api/certificate",
        "/api/openapi",
        "/api/docs",
    )
    assert [one for one in seen if not one.split()[1].startswith(public)] == []
    assert operator.state(without=CHANGES_BY_ITSELF) == before
    owner.page.reload()
    owner.heading("First steps")
    owner.problems.clear()  # what the browser said of the other page's tries


class Names(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return f"{name[:3]}_{'0' * 26}"
