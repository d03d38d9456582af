"""The claiming side of the protocol, written with a library that the gateway does not use for it."""

from dataclasses import dataclass
from typing import Any

from entobot.core.secrets import sha256_b64u
from entobot.devices.keys import parse_public_jwk
from entobot.devices.model import Platform
from entobot.pairing.model import DeviceInfo
from entobot.pairing.requests import ClaimRequest, CreatedInvite
from entobot.web.authentication import Presented
from tests.devices.phone import ORIGIN, Phone, show


@dataclass
class NewPhone(Phone):
    """A phone that pairs. `name` is what it calls itself."""

    name: str = "Ada's phone"

    @property
    def thumbprint(self) -> str:
        return parse_public_jwk(self.jwk).thumbprint

    def claim_proof(
        self, now_ms: int, secret: str, invite_id: str | None, header: dict[str, Any] | None = None, **changes: Any
    ) -> str:
        """A member changed to `...` is left out."""
        self.proofs_made += 1
        payload: dict[str, Any] = {
            "aud": ORIGIN,
            "sth": sha256_b64u(secret),
            "iat": now_ms // 1000 + self.skew_s,
            "jti": f"claim-{id(self)}-{self.proofs_made}",
        }
        if invite_id is not None:
            payload["invite_id"] = invite_id
        payload = {name: value for name, value in (payload | changes).items() if value is not ...}
        return self.sign(header or {"typ": "entobot-pair+jwt"}, payload)

    def claim(self, created: CreatedInvite, now_ms: int, **changes: Any) -> ClaimRequest:
        """A good claim of an invite, as far as `changes` of the request leave it good."""
        if created.code is not None:
            return self.claim_code(created.code, now_ms, **changes)
        assert created.secret is not None
        secret: str = changes.get("secret", created.secret)
        invite_id: str = changes.get("invite_id", created.invite.invite_id)
        proof = self.claim_proof(now_ms, secret, invite_id)
        return self._request(**{"invite_id": invite_id, "secret": secret, "proof": proof} | changes)

    def claim_code(self, code: str, now_ms: int, **changes: Any) -> ClaimRequest:
        return self._request(**{"code": code, "proof": self.claim_proof(now_ms, code, None)} | changes)

    def _request(self, **parts: Any) -> ClaimRequest:
        info = DeviceInfo(self.name, Platform.IOS, "1.0", "26.1")
        given: dict[str, Any] = {"public_key": parse_public_jwk(self.jwk), "device": info}
        return ClaimRequest(**given | parts)

    def claim_body(self, request: ClaimRequest) -> dict[str, Any]:
        """The same as a REST body."""
        body: dict[str, Any] = {
            "public_key": self.jwk,
            "device_info": {
                "device_name": request.device.device_name,
                "platform": "ios",
                "app_version": "1.0",
                "os_version": "26.1",
            },
            "proof": request.proof,
        }
        for name in ("invite_id", "secret", "code"):
            if getattr(request, name) is not None:
                body[name] = getattr(request, name)
        return body

    def collect(self, claim_id: str, now_ms: int) -> Presented:
        path = f"/api/v1/auth/pair/{claim_id}/collect"
        return show(path, None, self.proof(path, now_ms, "POST"), method="POST")
