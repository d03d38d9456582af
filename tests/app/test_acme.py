"""When orders are made, by a clock of the test's own and a real authority; and what is kept of those that failed."""

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from entobot.app.acme import Acme, Memory
from entobot.app.acme_failures import _FIX, _WHAT, explain
from entobot.app.certificate import Certificate, load_certificate
from entobot.config import Settings
from entobot.core.clock import SystemClock
from entobot.core.errors import StartupRefused
from entobot.core.secrets import SystemEntropy
from entobot.home import Home
from entobot.web.acme_challenges import Http01
from entobot.web.acme_words import Failed
from entobot.web.certificates import Machine, ensure_local_tls
from entobot.web.endpoints import TcpEndpoint
from entobot.web.plain_http import PlainHttp
from tests.support.authority import NAME, Authority, pebble
from tests.support.listening import serving
from tests.support.process import GENEROUS_S, free_port
from tests.support.time import ManualClock, SeededEntropy

DAY_S = 86_400.0
Answer = tuple[int, dict[str, str], Any]


def settings(directory: str, authority: Path | None = None, **acme: object) -> Settings:
    return Settings.model_validate(
        {
            "gateway": {"public_url": f"https://{NAME}"},
            "tls": {"mode": "acme"},
            "acme": {"agree": True, "directory": directory, "authority": authority, **acme},
        }
    )


class Orders:
    """One gateway's orders, over restarts."""

    def __init__(self, folder: Path, made: Settings, presenter: Http01 | None = None) -> None:
        self.home = Home(folder / "home")
        self.home.prepare()
        self.settings = made
        self.clock = ManualClock(SystemClock().now_ms())
        self.presenter = presenter or Http01()
        self.restart()

    def restart(self) -> None:
        self.acme = Acme(self.home, self.settings, self.clock, SeededEntropy(), self.presenter)
        served = load_certificate(self.home, self.settings, self.clock.now_ms(), SystemEntropy())
        assert served is not None
        self.served: Certificate = served

    async def look(self, *, is_asked: bool = False) -> bool:
        """Whether there is a new certificate."""
        found = await self.acme.find(self.served, is_asked=is_asked)
        self.served = found or self.served
        return found is not None

    @property
    def memory(self) -> Memory:
        return self.acme._memory


@asynccontextmanager
async def front(folder: Path, answer: Callable[[str, str], Answer]) -> AsyncGenerator[str]:
    """An HTTPS server that `answer(method, path)` speaks for: (status, headers, JSON)."""
    tls = ensure_local_tls(folder, Machine(("localhost",), ("127.0.0.1",)), SystemClock().now_ms(), SystemEntropy())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        status, headers, body = await asyncio.to_thread(answer, scope["method"], scope["path"])
        content = json.dumps(body).encode() if scope["method"] != "HEAD" else b""
        kind = "application/json" if status < 400 else "application/problem+json"
        fields = {"content-type": kind, "content-length": str(len(content)), **headers}
        start = {"status": status, "headers": [(name.encode(), value.encode()) for name, value in fields.items()]}
        await send({"type": "http.response.start", **start})
        await send({"type": "http.response.body", "body": content})

    async with serving(app=app, endpoints=[TcpEndpoint("127.0.0.1", 0, tls.files)]) as server:
        yield f"https://127.0.0.1:{server.port}"


@asynccontextmanager
async def reachable(folder: Path, **options: Any) -> AsyncGenerator[tuple[Authority, Http01]]:
    """An authority that can check names of this machine over HTTP."""
    port, presenter = free_port(), Http01()
    app = PlainHttp(f"https://{NAME}", presenter.answers)
    async with serving(app=app, endpoints=[TcpEndpoint("127.0.0.1", port)]):
        starting = pebble(folder / "authority", http_port=port, tls_port=free_port(), **options)
        authority = await asyncio.to_thread(starting.__enter__)
        try:
            yield authority, presenter
        finally:
            await asyncio.to_thread(starting.__exit__, None, None, None)


async def test_it_is_renewed_with_a_third_of_its_life_left_and_not_before(tmp_path: Path) -> None:
    async with reachable(tmp_path) as (authority, presenter):
        orders = Orders(tmp_path, settings(authority.directory, authority.ca_file), presenter)
        spki = orders.served.spki
        assert await orders.look()
        assert (orders.served.source, orders.served.spki) == ("acme", spki), "links that pin the key stay good"
        planned_ms = orders.acme.renews_at_ms(orders.served)
        orders.restart()
        assert not await orders.look(), "a restart keeps it"
        orders.clock.at_ms = planned_ms - 5 * 86_400_000
        assert not await orders.look()
        orders.clock.at_ms = planned_ms + 5 * 86_400_000
        first = orders.served.fingerprint
        assert await orders.look()
        assert (orders.served.fingerprint == first, orders.served.spki) == (False, spki)
        assert presenter.answers == {}, "nothing is left to be answered"

        orders.settings = settings(authority.directory, authority.ca_file, names=(NAME, f"more.{NAME}"))
        orders.restart()
        assert await orders.look(), "other names are ordered at once"
        assert set(orders.served.description.names) == {NAME, f"more.{NAME}"}


async def test_an_authority_that_wants_it_earlier_gets_it_earlier(tmp_path: Path) -> None:
    """As after a mistake of the authority's, which will revoke. Debian's Pebble has no ARI: it is put before it."""
    asked: list[str] = []
    start = datetime.now(UTC) + timedelta(days=50)
    async with reachable(tmp_path) as (authority, presenter):

        def answer(method: str, path: str) -> Answer:
            if path == "/dir":
                trust = ssl.create_default_context(cafile=str(authority.ca_file))
                found = httpx.get(authority.directory, verify=trust, timeout=GENEROUS_S).json()
                return 200, {}, found | {"renewalInfo": f"{address}/ari"}
            asked.append(path)
            window = {"start": start.isoformat(), "end": (start + timedelta(hours=1)).isoformat()}
            return 200, {"retry-after": "7200"}, {"suggestedWindow": window}

        async with front(authority.folder / "own", answer) as address:
            orders = Orders(tmp_path, settings(f"{address}/dir", authority.ca_file), presenter)
            assert await orders.look()
            first = orders.served
            assert not await orders.look()
            key, _, serial = asked[0].rpartition("/")[2].partition(".")
            assert (len(asked), bool(key), bool(serial)) == (1, True, True)
            wanted_ms = orders.acme.renews_at_ms(first)
            assert start.timestamp() * 1000 <= wanted_ms <= start.timestamp() * 1000 + 3_600_000

            start = datetime.now(UTC) - timedelta(days=1)
            orders.clock.advance(7100)
            assert not await orders.look(), "it said when to ask again"
            assert len(asked) == 1
            orders.clock.advance(200)
            assert await orders.look()
            assert orders.served.fingerprint != first.fingerprint


async def test_failures_back_off_are_remembered_and_an_operator_may_try_at_once(tmp_path: Path) -> None:
    closed = f"https://127.0.0.1:{free_port()}/dir"
    orders = Orders(tmp_path, settings(closed))
    with pytest.raises(StartupRefused, match="cannot be reached"):
        await orders.look()
    first_ms = orders.memory.retry_ms
    assert 200_000 <= first_ms - orders.clock.at_ms <= 400_000
    assert not await orders.look(), "it waits"
    orders.restart()
    assert not await orders.look(), "also after a restart"
    remembered = orders.acme.remembered()
    assert remembered is not None
    assert "cannot be reached" in remembered.text
    with pytest.raises(StartupRefused):
        await orders.look(is_asked=True)
    assert orders.memory.failures == 2
    orders.clock.at_ms = orders.memory.retry_ms
    with pytest.raises(StartupRefused):
        await orders.look()
    assert orders.memory.retry_ms - orders.clock.at_ms >= 900_000

    orders.settings = settings(closed, email="owner@example.org")
    orders.restart()
    assert orders.memory.failures == 0, "another order is a new one"


async def test_nobody_orders_before_the_time_that_a_rate_limit_names(tmp_path: Path) -> None:
    orders_seen: list[str] = []

    def answer(method: str, path: str) -> Answer:
        if path == "/dir":
            return 200, {}, {name: f"{address}/{name}" for name in ("newNonce", "newAccount", "newOrder")}
        if path == "/newNonce":
            return 200, {"replay-nonce": "bm9uY2U"}, {}
        orders_seen.append(path)
        problem = {"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many certificates already issued"}
        return 429, {"retry-after": "7200", "replay-nonce": "bm9uY2U"}, problem

    async with front(tmp_path / "front", answer) as address:
        orders = Orders(tmp_path, settings(f"{address}/dir", tmp_path / "front" / "ca.crt"))
        with pytest.raises(StartupRefused, match=r"staging.*before .*Z.*too many certificates already issued"):
            await orders.look()
        assert orders.memory.retry_ms >= orders.clock.at_ms + 7_200_000
        orders.clock.advance(7100)
        with pytest.raises(StartupRefused, match="wants no order before"):
            await orders.look(is_asked=True)
        assert len(orders_seen) == 1, "the operator's wish does not reach it"
        orders.clock.advance(200)
        with pytest.raises(StartupRefused):
            await orders.look(is_asked=True)
        assert len(orders_seen) == 2


async def test_an_authority_that_is_not_trusted_is_told_as_such(tmp_path: Path) -> None:
    async with front(tmp_path / "front", lambda method, path: (200, {}, {})) as address:
        ensure_local_tls(tmp_path / "other", Machine(("localhost",), ()), SystemClock().now_ms(), SystemEntropy())
        orders = Orders(tmp_path, settings(f"{address}/dir", tmp_path / "other" / "ca.crt"))
        with pytest.raises(StartupRefused, match=r"is not trusted here.*acme\.authority"):
            await orders.look()


@pytest.mark.parametrize(
    ("key", "mode", "said"),
    [
        ("authority", None, "acme.authority"),
        ("eab_key_file", None, "acme.eab_key_file"),
        ("dns_hook", None, "acme.dns_hook"),
        ("dns_hook", 0o600, "may not be run"),
    ],
)
def test_a_file_that_is_not_there_is_told_at_the_start(tmp_path: Path, key: str, mode: int | None, said: str) -> None:
    file = tmp_path / "file"
    if mode is not None:
        file.touch(mode)
    more = {"eab_kid": "kid"} if key == "eab_key_file" else {"challenge": "dns-01"} if key == "dns_hook" else {}
    with pytest.raises(StartupRefused, match=said):
        Orders(tmp_path, Settings.model_validate(settings("https://ca.example/dir", **more, **{key: file})))


async def test_a_damaged_memory_or_certificate_is_ordered_anew(tmp_path: Path) -> None:
    async with reachable(tmp_path) as (authority, presenter):
        orders = Orders(tmp_path, settings(authority.directory, authority.ca_file), presenter)
        assert await orders.look()
        (orders.home.tls / "acme.crt").write_text("half")
        (orders.home.tls / "acme.json").write_text("{")
        orders.restart()
        assert orders.served.source == "local-ca"
        assert "phones warn" in orders.acme.waits_for(orders.served)
        assert await orders.look()
        assert orders.acme.waits_for(orders.served) == ""


@pytest.mark.parametrize("kind", sorted({*_WHAT, "somethingNew"}))
@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01", "dns-01"])
def test_every_refusal_names_the_authority_or_the_name_and_what_to_do(kind: str, challenge: str) -> None:
    made = settings("https://ca.example/dir", challenge=challenge, dns_hook="/hook")
    text = explain(Failed(kind, "its \x1b[2J\u202eown\nwords", retry_after_s=60), made, 1_790_000_000_000)
    assert ("ca.example" in text) or (NAME in text)
    assert text.endswith("It said: its [2J own words")
    assert "2026-09-21T14:14:20" in text
    assert "{" not in text
    assert "\n" not in text


def test_every_fix_belongs_to_a_refusal() -> None:
    assert set(_FIX) <= set(_WHAT)
