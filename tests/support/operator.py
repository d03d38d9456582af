"""The owner at the local socket, without the cost of a command line: invites, confirms, looks into the database."""

import hashlib
import secrets
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from typing import Any

from entobot.client.device import Device
from entobot.client.local import LocalGateway
from tests.support.process import INVITES, GatewayProcess

__all__ = ["INVITES", "TRACES", "Operator"]
TRACES = frozenset(
    {"audit_head", "audit_log", "audit_personal", "audit_signed_heads", "device_proofs", "pairing_failures"}
)
"""Tables that a refused request may touch: traces of the refusal itself."""
TOLD = frozenset({"notification_attempts", "notifications"})
"""Tables that change by themselves for a while after something was told to somebody: compare `Operator.told` instead."""


class Operator:
    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        self.local = LocalGateway(gateway.home / "gateway.sock")

    def invite(self, **body: Any) -> dict[str, Any]:
        return self.local.request("POST", INVITES, json={"kind": "qr", **body})

    def claim(self, device: Device, invite: dict[str, Any], name: str = "Phone") -> dict[str, Any]:
        is_code = invite["kind"] == "code"
        return device.claim(
            secret=invite["code"] if is_code else invite["secret"],
            invite_id=None if is_code else invite["invite_id"],
            device_name=name,
            platform="web",
            app_version="1",
        )

    def confirm(self, invite: dict[str, Any], claim: dict[str, Any]) -> dict[str, Any]:
        answer = {"claim_id": claim["claim_id"], "code": claim["confirmation_code"]}
        return self.local.request("POST", f"{INVITES}/{invite['invite_id']}/confirm", json=answer)

    def pair(self, name: str = "Phone", **invite: Any) -> Device:
        """A device with credentials; `invite` are members of the invite, such as `scopes` and `user_id`."""
        made = self.invite(**invite)
        device = self.gateway.new_device()
        claim = self.claim(device, made, name)
        self.confirm(made, claim)
        assert device.collect(claim["claim_id"])
        return device

    def change(self, device: Device, what: str) -> None:
        """`suspend`, `reactivate` or `revoke`."""
        assert device.credentials is not None
        path = f"/api/v1/devices/{device.credentials.device_id}"
        if what == "revoke":
            self.local.request("DELETE", path)
        else:
            self.local.request("POST", f"{path}/{what}")

    # -- the database, beside the running gateway

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.gateway.home / "entobot.db", timeout=15)) as database:
            return database.execute(sql, values).fetchall()

    def execute(self, sql: str, *values: Any) -> None:
        with closing(sqlite3.connect(self.gateway.home / "entobot.db", timeout=15)) as database, database:
            database.execute(sql, values)

    def add_user(self, name: str, role: str = "member") -> str:
        """Another person, under a login of their own; the id."""
        login = f"u{secrets.token_hex(4)}"
        added = self.local.request("POST", "/api/v1/users", json={"login": login, "name": name, "role": role})
        return str(added["user_id"])

    def told(self) -> list[tuple[Any, ...]]:
        """Who was told what, however that goes on."""
        return self.query("SELECT notification_id, user_id, kind, title, body, link, sender FROM notifications")

    def state(self, *, without: Iterable[str] = ()) -> dict[str, str]:
        """A digest of every table's rows, to see what a request changed."""
        left_out = frozenset(without)
        with closing(sqlite3.connect(self.gateway.home / "entobot.db", timeout=15)) as database:
            names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {
                name: hashlib.sha256(repr(database.execute(f'SELECT * FROM "{name}"').fetchall()).encode()).hexdigest()
                for name in names
                if name not in left_out and not name.startswith("sqlite_")
            }
