"""A paired device over plain HTTP, one request after the other, on httpx: a second reading of the protocol.

The tests hold `Client` and the gateway against it; programs use `Client`.
"""

import json
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from entobot.client.answers import answer
from entobot.client.keys import DeviceKey
from entobot.client.proofs import decision_signature, dpop_proof, pairing_proof
from entobot.core.clock import Clock
from entobot.core.errors import Code, Problem
from entobot.core.ids import ulid
from entobot.core.secrets import Entropy

REFRESH_MARGIN_MS = 30_000


@dataclass(slots=True)
class Credentials:
    """What a device keeps. `offset_ms` is the gateway's clock minus this one's."""

    device_id: str
    user_id: str
    scopes: list[str]
    refresh_token: str
    access_token: str = ""
    expires_at_ms: int = 0
    offset_ms: int = 0


@dataclass(slots=True)
class Device:
    """`http` must reach the gateway at `origin`'s routes; `origin` is what proofs are made for."""

    key: DeviceKey
    origin: str
    http: httpx.Client
    clock: Clock
    entropy: Entropy
    credentials: Credentials | None = None
    offset_ms: int = 0
    on_refreshed: Callable[[], None] | None = None
    """Told when `credentials` changed, to keep them."""

    # -- pairing

    def claim(
        self, *, secret: str, invite_id: str | None, device_name: str, platform: str, app_version: str
    ) -> dict[str, Any]:
        """Spend an invite. Returns the claim's answer with `claim_id` and `confirmation_code`."""
        proof = pairing_proof(
            self.key,
            origin=self.origin,
            secret=secret,
            invite_id=invite_id,
            now_ms=self._now_ms(),
            entropy=self.entropy,
        )
        body: dict[str, Any] = {
            "public_key": self.key.jwk,
            "device_info": {"device_name": device_name, "platform": platform, "app_version": app_version},
            "proof": proof,
        }
        body |= {"code": secret} if invite_id is None else {"invite_id": invite_id, "secret": secret}
        return answer(self.http.post("/api/v1/auth/pair", json=body))

    def collect(self, claim_id: str, wait_s: int = 25) -> bool:
        """True once the credentials are here; False while the operator has not confirmed."""
        path = f"/api/v1/auth/pair/{claim_id}/collect"
        response = self.http.post(f"{path}?wait={wait_s}", headers={"DPoP": self._proof("POST", path)})
        body = answer(response)
        if response.status_code != 200:
            return False
        self._keep(body)
        return True

    # -- requests

    def request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """A signed request and its JSON answer. Refreshes when due. Raises Problem."""
        return self._retried(
            lambda: answer(self.http.request(method, path, headers=self._headers(method, path), **options))
        )

    def command(self, name: str, data: dict[str, Any], command_id: str | None = None) -> dict[str, Any]:
        """Run a device command. Raises Problem."""
        body = {"id": command_id or self.new_id(), "name": name, "data": data}
        return self.request("POST", "/api/v1/commands", json=body)["data"]

    def new_id(self) -> str:
        return ulid(self.clock.now_ms(), self.entropy.bytes(10))

    def decide(
        self, approval: dict[str, Any], decision: str, reason: str | None = None, *, edited_action: str | None = None
    ) -> dict[str, Any]:
        """Sign and send a decision on exactly the action that `approval` holds, or on another one instead of it."""
        signature = decision_signature(
            self.key,
            origin=self.origin,
            approval_id=approval["approval_id"],
            decision=decision,
            action=approval["action"],
            now_ms=self._now_ms(),
            entropy=self.entropy,
            reason=reason,
            edited_action=edited_action,
        )
        data = {
            "approval_id": approval["approval_id"],
            "decision": decision,
            "action_sha256": approval["action_sha256"],
            "signature": signature,
        }
        if edited_action is not None:
            data["edited_action"] = edited_action
        if reason is not None:
            data["reason"] = reason
        return self.command("approval.decide", data)

    @contextmanager
    def events(self, stream: str | None = None, after: int | None = None) -> Generator[Iterator[dict[str, Any]]]:
        """Frames of `GET /api/v1/events`, until the gateway ends the stream."""
        path = "/api/v1/events"
        position = {} if stream is None else {"stream": stream, "after": str(after)}
        self._refresh_when_due()
        with self.http.stream(
            "GET", path, params=position, headers=self._headers("GET", path), timeout=httpx.Timeout(10, read=40)
        ) as response:
            if response.status_code != 200:
                response.read()
                answer(response)
            yield (json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: "))

    def refresh(self) -> None:
        """New tokens for the refresh token. Raises Problem."""
        credentials = self._credentials()
        path = "/api/v1/auth/refresh"
        body = {"refresh_token": credentials.refresh_token}
        self._keep(
            self._retried(lambda: answer(self.http.post(path, json=body, headers={"DPoP": self._proof("POST", path)})))
        )

    # -- parts

    def _credentials(self) -> Credentials:
        if self.credentials is None:
            raise Problem(Code.UNAUTHENTICATED, "This device is not paired.")
        return self.credentials

    def _refresh_when_due(self) -> None:
        if self._credentials().expires_at_ms - REFRESH_MARGIN_MS < self._now_ms():
            self.refresh()

    def _headers(self, method: str, path: str) -> dict[str, str]:
        self._refresh_when_due()
        token = self._credentials().access_token
        return {"Authorization": f"DPoP {token}", "DPoP": self._proof(method, path, token)}

    def _proof(self, method: str, path: str, token: str | None = None) -> str:
        return dpop_proof(
            self.key,
            method=method,
            url=self.origin + path,
            now_ms=self._now_ms(),
            entropy=self.entropy,
            access_token=token,
        )

    def _retried(self, send: Any) -> dict[str, Any]:
        """Once more after `proof_stale`, with the gateway's clock."""
        try:
            return send()
        except Problem as problem:
            server_time = problem.extra.get("server_time")
            if problem.code is not Code.PROOF_STALE or not isinstance(server_time, str):
                raise
            self.offset_ms = round(datetime.fromisoformat(server_time).timestamp() * 1000) - self.clock.now_ms()
            return send()

    def _keep(self, body: dict[str, Any]) -> None:
        self.credentials = Credentials(
            device_id=body["device_id"],
            user_id=body["user_id"],
            scopes=body["scopes"],
            refresh_token=body["refresh_token"],
            access_token=body["access_token"],
            expires_at_ms=self._now_ms() + body["expires_in"] * 1000,
        )
        if self.on_refreshed is not None:
            self.on_refreshed()

    def _now_ms(self) -> int:
        return self.clock.now_ms() + self.offset_ms
