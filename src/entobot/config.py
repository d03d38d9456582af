"""The settings tree; `sources` reads it, and decides which source wins.

An unknown key or variable refuses to start. Durations are ISO 8601 or seconds, `timedelta` in code; lists in a
variable are written with commas or spaces.
"""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    model_validator,
)

from entobot.config_alerts import AlertsSettings
from entobot.config_approvals import ApprovalsSettings
from entobot.config_audit import AuditSettings
from entobot.config_bridges import Bridges
from entobot.config_callbacks import CallbackSettings
from entobot.config_edge import EdgeSettings
from entobot.config_files import FileSettings
from entobot.config_mqtt import MqttSettings
from entobot.config_notifications import NotificationSettings
from entobot.config_sms import SmsSettings
from entobot.config_things import ThingSettings
from entobot.config_types import Duration, Section, Words
from entobot.config_voice import VoiceSettings
from entobot.core.networks import Networks, parse_network
from entobot.core.rates import RATES, Allowance, Rate

ENVIRONMENT_PREFIX = "ENTOBOT_"
FILE_NAME = "entobot.toml"
MODEL_KEY_VARIABLES = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "groq": "GROQ_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY",
}
"""Model vendors and the variables in which people already keep their keys, in the order in which they are tried."""


def _networks(values: tuple[str, ...]) -> tuple[str, ...]:
    Networks(values)
    return values


NetworkList = Annotated[Words, AfterValidator(_networks)]


class GatewaySettings(Section):
    name: str = Field(default="", description="Shown to phones before they pair. Empty: this machine's host name.")
    host: str = Field(default="0.0.0.0", description="Address to listen on. Beyond loopback needs TLS.")  # noqa: S104  phones on the network are the main use, and TLS is on
    port: int = Field(default=18790, ge=0, le=65535, description="The one port: pages, REST and WebSocket.")
    public_url: str = Field(default="", description="Origin that phones use. Empty: chosen at first start and kept.")
    allowed_origins: Words = Field(default=(), description="Further exact origins; `*` is refused.")
    ws_port: int = Field(default=0, ge=0, le=65535, description="A second port with the WebSocket only. 0: none.")
    trusted_proxies: NetworkList = Field(
        default=(), description="Networks of reverse proxies whose `X-Forwarded-For` is believed. Empty: nobody's."
    )
    proxy_protocol: bool = Field(
        default=False, description="Trusted proxies begin each connection with the PROXY protocol, version 2."
    )
    allowed_networks: NetworkList = Field(
        default=(), description="Only these networks may connect. Empty: everybody. The local socket always may."
    )
    heartbeat: Duration = Field(default=timedelta(seconds=30), gt=timedelta(0), description="Between WebSocket pings.")
    max_connections: int = Field(default=20_000, ge=1, description="Open connections in all.")
    drain_pause: Duration = Field(
        default=timedelta(0),
        ge=timedelta(0),
        le=timedelta(minutes=5),
        description="When told to stop: not ready for so long before anything closes. For load balancers.",
    )
    max_connections_per_address: int = Field(
        default=0, ge=0, description="Open connections of one address (IPv6: a /64). 0: half of `max_connections`."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "GatewaySettings":
        if any(parse_network(text).prefixlen == 0 for text in self.trusted_proxies):
            raise ValueError("trusted_proxies may not hold every address: anybody could then claim to be anybody.")
        if self.proxy_protocol and not self.trusted_proxies:
            raise ValueError("proxy_protocol needs trusted_proxies: it is taken from nobody else.")
        if self.ws_port and self.ws_port == self.port:
            raise ValueError("ws_port and port are the same.")
        return self


class TlsSettings(Section):
    mode: Literal["local-ca", "given", "acme", "off"] = Field(
        default="local-ca",
        description="`acme` orders a public certificate. `off` is plain HTTP and works on loopback only.",
    )
    certificate: Path | None = Field(default=None, description="PEM chain for `given`.")
    key: Path | None = Field(default=None, description="PEM key for `given`.")
    http_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Port for plain HTTP: sends browsers to `gateway.public_url`, answers `http-01`. "
        "0: none, but 80 where `acme.challenge` is `http-01`.",
    )


def _directory(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError("must be an https:// URL.")
    return url


_DNS_NAME = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


def _dns_names(values: tuple[str, ...]) -> tuple[str, ...]:
    for text in values:
        if not _DNS_NAME.fullmatch(text) or len(text) > 253:
            raise ValueError(f"'{text}' is no DNS name in lower case, as in gateway.example.org.")
    return values


class AcmeSettings(Section):
    agree: bool = Field(default=False, description="You agree to the terms of the authority. Needed.")
    authority: Path | None = Field(
        default=None, description="PEM to trust for `directory`, where it is a private one. Empty: the system's."
    )
    challenge: Literal["http-01", "tls-alpn-01", "dns-01"] = Field(
        default="http-01", description="How a name is proven: on port 80, on port 443, or in DNS."
    )
    directory: Annotated[str, AfterValidator(_directory)] = Field(
        default="https://acme-v02.api.letsencrypt.org/directory", description="The authority: URL of its directory."
    )
    dns_hook: Path | None = Field(
        default=None,
        description="For `dns-01`: a program, run as `HOOK add NAME VALUE` and `HOOK remove NAME VALUE` for a TXT "
        "record. It returns when the record can be seen.",
    )
    eab_key_file: Path | None = Field(
        default=None, description="File with the HMAC key (base64url) of an external account, where the authority asks."
    )
    eab_kid: str = Field(default="", description="Key id of that external account.")
    email: str = Field(default="", description="Where the authority may write. Empty: nowhere.")
    names: Annotated[Words, AfterValidator(_dns_names)] = Field(
        default=(), description="Names of the certificate. Empty: the host of `gateway.public_url`."
    )
    profile: str = Field(default="", description="A profile of the authority, as in `shortlived`. Empty: its default.")

    @model_validator(mode="after")
    def _fits_together(self) -> "AcmeSettings":
        if self.challenge == "dns-01" and self.dns_hook is None:
            raise ValueError("challenge dns-01 needs dns_hook, the program that sets the record.")
        if self.challenge != "dns-01" and any(name.startswith("*") for name in self.names):
            raise ValueError("names with a * can be proven by challenge dns-01 only.")
        if bool(self.eab_kid) != (self.eab_key_file is not None):
            raise ValueError("eab_kid and eab_key_file belong together.")
        return self


class SigninSettings(Section):
    passwords: bool = Field(
        default=False,
        description="Whether browsers may sign in with a password, and an authenticator app. Passkeys and links always go.",
    )


class StorageSettings(Section):
    url: SecretStr = Field(
        default=SecretStr(""),
        description="`postgresql://user@host/database`, several hosts and `?sslmode=…` included. Empty: SQLite in the data folder.",
    )
    password_file: Path | None = Field(
        default=None, description="File with the password for `url`. Empty: from the URL, PGPASSWORD or the passfile."
    )


class StreamSettings(Section):
    keep_events: int = Field(
        default=10_000, ge=2048, description="Events of a person that a device can still catch up on."
    )
    keep_for: Duration = Field(
        default=timedelta(days=30), ge=timedelta(hours=1), description="How long at most. Later it gets a snapshot."
    )


class BusSettings(Section):
    url: SecretStr = Field(
        default=SecretStr(""),
        description="How nodes ring one another: `nats://…` or `tls://…` (several with commas), or a direct `postgresql://…`. Empty: the database, where it is PostgreSQL.",
    )
    authority: Path | None = Field(default=None, description="PEM of the authority to trust for `tls://`.")


class AgentSettings(Section):
    runner: Literal["auto", "echo", "llm", "none"] = Field(
        default="auto",
        description="`auto`: `llm` when a model key or base URL is there, else `echo`. `none`: nobody answers here; "
        "messages are for people, and for agents that connect as devices.",
    )
    model: str = Field(default="", description="`vendor:model`. Empty: the vendor's default.")
    base_url: str = Field(default="", description="Any OpenAI-compatible server (vLLM, Ollama, llama.cpp).")
    api_key: SecretStr = Field(default=SecretStr(""), description="Model key; the vendors' own variables work too.")
    api_key_file: Path | None = Field(
        default=None, description="File with the model key, read at start. An empty file is no key; `api_key` beats it."
    )
    instructions: str = Field(default="", description="Added to the agent's system prompt.")
    temperature: float | None = Field(default=None, ge=0, le=2, description="Empty: the model's own default.")
    max_tokens: int | None = Field(default=None, ge=1, description="Of one answer. Empty: the vendor's default.")
    max_iterations: int = Field(default=20, ge=1, le=200, description="Model calls in one run.")
    pictures: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Whether the model is shown pictures of a message. `auto`: those of OpenAI, Anthropic and Gemini are.",
    )
    workspace: Path | None = Field(
        default=None, description="Folder of the file tools. Empty: `workspace` in the data folder."
    )
    run_timeout: Duration = Field(default=timedelta(minutes=10), gt=timedelta(0), description="One model call.")
    approval_timeout: Duration = Field(
        default=timedelta(hours=24), gt=timedelta(0), description="How long an approval waits for a person."
    )
    bridges: Bridges = Field(
        default=(),
        description="Agents outside the gateway, each as `[[agent.bridges]]` (in the variable: JSON): "
        "docs/how-to/bring-your-own-agent.md.",
    )
    default: str = Field(
        default="",
        description="Which of `bridges` answers conversations that name nobody. Empty: what `runner` says.",
    )

    @model_validator(mode="after")
    def _knows_its_default(self) -> "AgentSettings":
        if self.default and self.default not in {bridge.name for bridge in self.bridges}:
            raise ValueError(f"default is '{self.default}', and no bridge is called so.")
        return self

    @model_validator(mode="before")
    @classmethod
    def _read_key(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "api_key_file" not in given:
            return cast("object", given)
        values = cast("dict[str, Any]", given)
        file = values["api_key_file"] or None
        if file is None or values.get("api_key"):
            return values | {"api_key_file": file}
        try:
            return values | {"api_key": Path(file).read_text("utf-8").strip()}
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise ValueError(f"api_key_file: {file} cannot be read ({why}).") from None


def _per_second(rate: Rate) -> Any:
    rule = RATES[rate]
    text = f"{rule.what[0].upper()}{rule.what[1:]}, of one {rule.counted_by.value}."
    return Field(default=rule.default.per_second, gt=0, description=text)


def _burst(rate: Rate) -> Any:
    return Field(default=RATES[rate].default.burst, ge=1, description="How many of them may come at once.")


class LimitSettings(Section):
    """The rates are those of `core.rates`; `allowances` hands them out by name."""

    connections_per_second: float = _per_second(Rate.CONNECTIONS)
    connections_burst: int = _burst(Rate.CONNECTIONS)
    credentials_per_second: float = _per_second(Rate.CREDENTIALS)
    credentials_burst: int = _burst(Rate.CREDENTIALS)
    events_per_second: float = _per_second(Rate.EVENTS)
    events_burst: int = _burst(Rate.EVENTS)
    expensive_per_second: float = _per_second(Rate.EXPENSIVE)
    expensive_burst: int = _burst(Rate.EXPENSIVE)
    frames_per_second: float = _per_second(Rate.FRAMES)
    frames_burst: int = _burst(Rate.FRAMES)
    pairing_per_second: float = _per_second(Rate.PAIRING)
    pairing_burst: int = _burst(Rate.PAIRING)
    pings_per_second: float = _per_second(Rate.PINGS)
    pings_burst: int = _burst(Rate.PINGS)
    reads_per_second: float = _per_second(Rate.READS)
    reads_burst: int = _burst(Rate.READS)
    receipts_per_second: float = _per_second(Rate.RECEIPTS)
    receipts_burst: int = _burst(Rate.RECEIPTS)
    requests_per_second: float = _per_second(Rate.REQUESTS)
    requests_burst: int = _burst(Rate.REQUESTS)
    sign_ins_per_second: float = _per_second(Rate.SIGN_INS)
    sign_ins_burst: int = _burst(Rate.SIGN_INS)
    transcriptions_per_second: float = _per_second(Rate.TRANSCRIPTIONS)
    transcriptions_burst: int = _burst(Rate.TRANSCRIPTIONS)
    writes_per_second: float = _per_second(Rate.WRITES)
    writes_burst: int = _burst(Rate.WRITES)
    user_multiple: int = Field(
        default=4, ge=1, description="A user's devices together have so many times one device's rates."
    )
    network_multiple: int = Field(
        default=32, ge=1, description="An IPv6 /48 has so many times the rates of one address, which is a /64."
    )
    opening_per_address: int = Field(
        default=20, ge=1, description="Connections of one address whose request has not arrived yet."
    )
    opening: int = Field(default=400, ge=1, description="The same in all.")
    unauthenticated_per_address: int = Field(default=10, ge=1, description="WebSockets not authenticated yet.")
    unauthenticated: int = Field(default=200, ge=1, description="The same in all.")

    def allowances(self) -> dict[Rate, Allowance]:
        return {rate: Allowance(getattr(self, f"{rate}_per_second"), getattr(self, f"{rate}_burst")) for rate in Rate}


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="What is left out below it."
    )
    format: Literal["auto", "console", "json"] = Field(
        default="auto", description="`auto`: console on a terminal, else JSON."
    )


def _collector(url: str) -> str:
    if not url:
        return url
    wrong = "must be an http:// or https:// URL, as in http://127.0.0.1:4318/v1/traces."
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(wrong) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or len(url.split()) != 1:
        raise ValueError(wrong)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("holds credentials or parameters: give those in OTEL_EXPORTER_OTLP_HEADERS.")
    return url if parts.path.strip("/") else url.rstrip("/") + "/v1/traces"


class TracingSettings(Section):
    endpoint: Annotated[str, AfterValidator(_collector)] = Field(
        default="",
        description="URL of an OpenTelemetry collector (OTLP over HTTP), without a path its `/v1/traces`. "
        "Empty: nothing is traced.",
    )
    sample_ratio: float = Field(default=1.0, ge=0, le=1, description="Which part of all traces is kept.")


def _age_recipients(values: tuple[str, ...]) -> tuple[str, ...]:
    for text in values:
        if not text.startswith("age1"):
            raise ValueError(f"'{text}' is no age recipient: it begins with age1.")
    return values


class BackupSettings(Section):
    every: Duration = Field(
        default=timedelta(0),
        ge=timedelta(0),
        description="Make a backup this often while the gateway runs. 0: none. Needs `folder` and `recipients`.",
    )
    keep: int = Field(
        default=7, ge=1, description="Backups of this gateway that stay in `folder`; older ones are deleted."
    )
    folder: Path | None = Field(
        default=None, description="Where backups are written, best on another disk. It must be there already."
    )
    recipients: Annotated[Words, AfterValidator(_age_recipients)] = Field(
        default=(), description="age recipients (`age1…`) that can open a backup. `entobot backup key` makes one."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "BackupSettings":
        if self.every and (self.folder is None or not self.recipients):
            raise ValueError("every needs folder and recipients: a backup that is made by itself is always encrypted.")
        if timedelta(0) < self.every < timedelta(minutes=1):
            raise ValueError("every is at least a minute.")
        return self


class Settings(Section):
    gateway: GatewaySettings = GatewaySettings()
    files: FileSettings = FileSettings()
    tls: TlsSettings = TlsSettings()
    signin: SigninSettings = SigninSettings()
    acme: AcmeSettings = AcmeSettings()
    storage: StorageSettings = StorageSettings()
    backup: BackupSettings = BackupSettings()
    audit: AuditSettings = AuditSettings()
    alerts: AlertsSettings = AlertsSettings()
    approvals: ApprovalsSettings = ApprovalsSettings()
    callbacks: CallbackSettings = CallbackSettings()
    edge: EdgeSettings = EdgeSettings()
    mqtt: MqttSettings = MqttSettings()
    things: ThingSettings = ThingSettings()
    notifications: NotificationSettings = NotificationSettings()
    sms: SmsSettings = SmsSettings()
    stream: StreamSettings = StreamSettings()
    voice: VoiceSettings = VoiceSettings()
    bus: BusSettings = BusSettings()
    agent: AgentSettings = AgentSettings()
    limits: LimitSettings = LimitSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()

    @model_validator(mode="after")
    def _fits_together(self) -> "Settings":
        if self.tls.mode == "acme":
            self._check_acme()
        if self.tls.http_port and self.tls.mode == "off":
            raise ValueError("tls.http_port needs TLS: there is nothing to send browsers to.")
        if self.plain_port and self.plain_port in (self.gateway.port, self.gateway.ws_port):
            raise ValueError("tls.http_port is a port of its own: it is gateway.port or gateway.ws_port already.")
        return self

    @property
    def plain_port(self) -> int:
        """Where plain HTTP is answered; 0: nowhere."""
        is_needed = self.tls.mode == "acme" and self.acme.challenge == "http-01"
        return self.tls.http_port or (80 if is_needed else 0)

    @property
    def acme_names(self) -> tuple[str, ...]:
        """What the certificate is ordered for."""
        host = urlsplit(self.gateway.public_url).hostname or ""
        return self.acme.names or (host,)

    def _check_acme(self) -> None:
        host = urlsplit(self.gateway.public_url).hostname or ""
        if not self.gateway.public_url.startswith("https://") or not _DNS_NAME.fullmatch(host):
            raise ValueError(
                "tls.mode 'acme' needs gateway.public_url with a DNS name that leads here, "
                "as in https://gateway.example.org."
            )
        if not {host, f"*.{host.partition('.')[2]}"} & set(self.acme_names):
            raise ValueError(f"acme.names must hold {host}, the host of gateway.public_url.")
        if not self.acme.agree:
            raise ValueError(
                f"tls.mode 'acme' orders from {self.acme.directory}. Read the authority's terms, then set acme.agree = true."
            )
        if self.gateway.allowed_networks and self.acme.challenge == "tls-alpn-01":
            raise ValueError(
                "acme.challenge 'tls-alpn-01' cannot work with gateway.allowed_networks: the authority connects from "
                "addresses that nobody knows. Use http-01, whose port lets everybody in, or dns-01."
            )
