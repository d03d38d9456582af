"""REST: the certificate for whoever looks after the gateway. What phones may know of it is `GET /api/certificate`."""

from typing import Literal, Protocol

from pydantic import BaseModel, Field

from entobot.core.errors import Code
from entobot.web.routes import Api


class LastError(BaseModel):
    at: str
    detail: str = Field(description="What happened and what to do.")


class CertificateState(BaseModel):
    mode: Literal["acme", "given", "local-ca", "off"] = Field(description="The setting `tls.mode`.")
    source: Literal["acme", "given", "local-ca"] | None = Field(
        default=None, description="Where the one that is served comes from; null without TLS."
    )
    names: list[str] = []
    issuer: str | None = Field(default=None, description="RFC 4514.")
    fingerprint: str | None = Field(default=None, description="SHA-256, as browsers show it.")
    not_before: str | None = None
    not_after: str | None = None
    renews_at: str | None = Field(default=None, description="When the gateway will renew it; null if others do.")
    is_renewing: bool = False
    last_error: LastError | None = Field(default=None, description="Of the last try, while no later one went well.")


class Desk(Protocol):
    """`app.certificates.Certificates`."""

    def state(self) -> CertificateState: ...
    def ask(self) -> None: ...


def add_routes(api: Api, desk: Desk) -> None:
    async def get_certificate_state() -> CertificateState:
        """The certificate that is served, its next renewal and what went wrong last."""
        return desk.state()

    async def renew_certificate() -> CertificateState:
        """Look for a new certificate now, in the background. `is_renewing` of the state says when it is done."""
        desk.ask()
        return desk.state().model_copy(update={"is_renewing": True})

    api.add("GET", "/api/v1/certificate", get_certificate_state)
    api.add(
        "POST",
        "/api/v1/certificate/renew",
        renew_certificate,
        status_code=202,
        idempotent=False,
        problems=[Code.INVALID],
    )
