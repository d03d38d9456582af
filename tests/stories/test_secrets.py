"""No secret that was issued or shown in a whole story is in a log line, an error, a metric, or in clear in the database."""

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from entobot.client.device import Device
from entobot.core.errors import Problem
from tests.stories.test_simple_protocol import conversation, talking
from tests.stories.test_tickets import ask as ask_for_ticket
from tests.support.fake_openai import KEY, Failure, FakeOpenAI, Text
from tests.support.operator import Operator
from tests.support.phone import connected
from tests.support.process import GatewayProcess
from tests.support.thing import Thing, opened, refused_with

SECRET_MEMBERS = frozenset({"access_token", "api_key", "code", "confirmation_code", "proof", "refresh_token", "secret", "ticket", "url"})  # fmt: skip


class Collector:
    """Every secret that went over the wire, and every error that came back."""

    def __init__(self) -> None:
        self.secrets: set[str] = {KEY}
        self.errors: list[str] = []

    def add(self, value: Any) -> None:
        if isinstance(value, dict):
            for name, member in value.items():
                if name in SECRET_MEMBERS and isinstance(member, str):
                    self.secrets.add(member)
                else:
                    self.add(member)

    def watch(self, http: httpx.Client) -> None:
        http.event_hooks = {"request": [self._asked], "response": [self._answered]}

    def _asked(self, request: httpx.Request) -> None:
        for name in ("authorization", "dpop", "cookie"):
            self.secrets |= {value.split(" ")[-1] for value in request.headers.get_list(name)}
        with suppress(ValueError):
            self.add(json.loads(request.content))

    def _answered(self, response: httpx.Response) -> None:
        response.read()
        if response.is_error:
            self.errors.append(response.text + str(response.headers))
        elif response.headers.get("content-type", "").startswith("application/json"):
            self.add(response.json())

    def needles(self) -> Iterator[re.Pattern[str]]:
        """What identifies each secret: of signed texts the signature, of links what is behind the `#`, codes as typed."""
        for secret in self.secrets:
            part = secret.rpartition("#")[2].rpartition(".")[2]
            if len(part) >= 6:
                yield re.compile(rf"(?<![A-Za-z0-9]){re.escape(part)}" if len(part) < 12 else re.escape(part[-40:]))


@pytest.fixture
async def model() -> Any:
    async with FakeOpenAI(Text(["from the model"]), Failure(401), Text(["to the board"])) as server:
        yield server


async def test_no_secret_of_a_whole_story_is_written_anywhere(tmp_path: Path, model: FakeOpenAI) -> None:
    gateway = GatewayProcess(
        tmp_path / "home",
        environment={
            "ENTOBOT_LOG__LEVEL": "debug",
            "ENTOBOT_LOG__FORMAT": "json",
            "ENTOBOT_AGENT__BASE_URL": model.base_url,
            "ENTOBOT_AGENT__API_KEY": KEY,
        },
    ).start()
    found = Collector()
    try:
        device = await asyncio.to_thread(pair, gateway, found)
        await talk(gateway, device, found)
        await asyncio.to_thread(stumble, gateway, device, found)
        await board(gateway, found)
        raw = await asyncio.to_thread(gateway.cli, "metrics", "--raw")
        await asyncio.to_thread(gateway.stop)
        check(gateway, found, raw.stdout)
    finally:
        gateway.close()


def pair(gateway: GatewayProcess, found: Collector) -> Device:
    operator = Operator(gateway)
    device = gateway.new_device()
    found.watch(device.http)
    wasted = operator.invite(kind="code")
    found.add(wasted)
    with pytest.raises(Problem):
        device.claim(secret="7K3M9PQR", invite_id=None, device_name="x", platform="web", app_version="1")
    made = operator.invite(scopes=["chat", "approve", "notify", "metrics"])
    found.add(made)
    claim = operator.claim(device, made)
    operator.confirm(made, claim)
    assert device.collect(claim["claim_id"])
    device.refresh()
    return device


async def talk(gateway: GatewayProcess, device: Device, found: Collector) -> None:
    async with connected(gateway, device) as phone:
        await phone.say("hello")
        await phone.until_event("RUN_FINISHED")
        await phone.say("once more")
        await phone.until_event("RUN_ERROR")
    ticket = (await asyncio.to_thread(ask_for_ticket, device))["ticket"]
    found.secrets.add(ticket)
    async with opened(gateway, ticket=ticket):
        pass
    assert await refused_with(gateway, ticket=ticket) == 4003
    assert device.credentials is not None
    found.secrets |= {device.credentials.access_token, device.credentials.refresh_token}


def stumble(gateway: GatewayProcess, device: Device, found: Collector) -> None:
    """Requests that carry secrets to where they do not belong."""
    assert device.credentials is not None
    token, http = device.credentials.access_token, device.http
    body = {"refresh_token": [token], "secret": token, "code": {"deep": token}}
    for path in ("/api/v1/auth/pair", "/api/v1/auth/refresh", "/api/v1/commands", f"/api/v1/{token}", "/metrics"):
        assert http.post(path, json=body).is_error
        assert http.post(path, content=json.dumps(body)[:-3], headers={"content-type": "application/json"}).is_error
    assert http.get("/metrics", headers={"authorization": f"Bearer {token}"}).status_code == 401
    assert http.get("/api/v1/devices", headers={"authorization": f"Bearer {token}", "cookie": f"a={token}"}).is_error
    assert http.get(f"/api/v1/devices/{token}", headers={"traceparent": token}).is_error
    with pytest.raises(Problem):
        device.command("message.send", {"content": 1, "secret": token})


async def board(gateway: GatewayProcess, found: Collector) -> None:
    thing = await asyncio.to_thread(Thing.make, gateway, "Board")
    wrong = thing.api_key[:-1] + ("A" if thing.api_key[-1] != "A" else "B")
    found.secrets |= {thing.api_key, wrong}
    async with talking(gateway, thing) as socket:
        assert (await conversation(socket, "hi"))["type"] == "message"
    assert await refused_with(gateway, api_key=wrong) == 4500


def check(gateway: GatewayProcess, found: Collector, metrics: str) -> None:
    log = gateway.log.read_text()
    assert '"event": "request"' in log, "the log is at debug"
    assert "entobot_commands_total" in metrics
    stored = "".join(path.read_bytes().decode("latin-1") for path in gateway.home.glob("entobot.db*"))
    assert "from the model" in stored, "what is stored is looked at"
    assert len(found.secrets) >= 15
    assert len(found.errors) > 10
    places = {"log": log, "metrics": metrics, "errors": "\n".join(found.errors), "database": stored}
    leaks = [(place, one.pattern) for one in found.needles() for place, text in places.items() if one.search(text)]
    assert leaks == []
    assert "SECRET-PROVIDER-TEXT" not in log + metrics + stored
