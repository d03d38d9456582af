"""`entobot doctor`: look at an installation from outside and say what to do about each finding."""

import shutil
import socket
import sqlite3
import ssl
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from cryptography import x509

from entobot.app.backups import complaint, installed_for, read_last
from entobot.app.posture import outside_allowed
from entobot.app.settings import check_settings, load_effective
from entobot.app.weak_points import Grade
from entobot.audit.cli_verify import watched
from entobot.client.local import GatewayNotRunning, LocalGateway
from entobot.core.clock import SystemClock, rfc3339
from entobot.core.errors import Problem, StartupRefused
from entobot.home import Home
from entobot.sources import load, system_environment
from entobot.storage.migrations import HEAD, newer_text, version
from entobot.web.addresses import lan_addresses
from entobot.web.certificates import fingerprint_sha256

MIN_FREE_BYTES = 1024**3
MAX_SKEW_S = 30.0


class Level(StrEnum):
    FAILURE = "failure"
    OK = "ok"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `fix` is empty when there is nothing to do."""

    name: str
    level: Level
    detail: str
    fix: str = ""

    @property
    def is_failure(self) -> bool:
        return self.level is Level.FAILURE

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def to_text(self) -> str:
        mark = {Level.OK: "ok  ", Level.WARNING: "warn", Level.FAILURE: "FAIL"}[self.level]
        return f"{mark}  {self.name}: {self.detail}" + (f"\n      → {self.fix}" if self.fix else "")


def examine(home: Path) -> list[Finding]:
    """Every finding, in the order in which a person would look. Blocks; touches nothing."""
    findings = [_python(), _settings(home), _folder(home), _disk(home), *_backup(home), *_edge(home)]
    gateway = LocalGateway(home / "gateway.sock")
    try:
        health = gateway.request("GET", "/api/health")
    except GatewayNotRunning:
        not_running = Finding("gateway", Level.WARNING, "It is not running.", "Start it with 'entobot up'.")
        return [*findings, *_newer_store(home), not_running]
    except (Problem, OSError) as error:
        return [*findings, Finding("gateway", Level.FAILURE, str(error), "See its log.")]
    findings.append(Finding("gateway", Level.OK, f"Version {health['version']} runs at {health['origin']}."))
    is_readable = not check_settings(home)
    steps: list[Callable[[], list[Finding]]] = [
        lambda: _ready(gateway),
        lambda: [_voice(gateway)],
        lambda: [_clock(health)],
        lambda: _address(home, health["origin"]) if is_readable else [],
        lambda: [_networks(home, health["origin"])] if is_readable else [],
        lambda: [_tls(home, health["origin"], gateway.request("GET", "/api/v1/certificate")["source"])],
        lambda: [_audit(gateway)],
    ]
    steps.append(lambda: _posture(gateway, findings))
    for step in steps:
        findings += _taken(step)
    return findings


def _taken(step: Callable[[], list[Finding]]) -> list[Finding]:
    """What the step finds. A gateway that cannot answer one question is why somebody asks: the others go on."""
    try:
        return step()
    except (Problem, OSError) as error:
        return [Finding("gateway", Level.FAILURE, str(error), "See what the other findings say, and its log.")]


def _python() -> Finding:
    return Finding("python", Level.OK, sys.version.split()[0])


def _settings(home: Path) -> Finding:
    problems = check_settings(home)
    if problems:
        return Finding("settings", Level.FAILURE, " ".join(problems), f"Edit {home / 'entobot.toml'}.")
    return Finding("settings", Level.OK, "They are right.")


def _folder(home: Path) -> Finding:
    if not home.exists():
        return Finding("data folder", Level.OK, f"{home} is made at first start.")
    mode = home.stat().st_mode & 0o777
    if mode & 0o077:
        return Finding("data folder", Level.FAILURE, f"{home} is open to others ({mode:o}).", f"chmod 700 {home}")
    return Finding("data folder", Level.OK, f"{home}, for its owner alone.")


def _disk(home: Path) -> Finding:
    there = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(there).free
    text = f"{free // 1024**2} MiB free."
    if free < MIN_FREE_BYTES:
        return Finding("disk", Level.WARNING, text, "Make room: a full disk stops every write.")
    return Finding("disk", Level.OK, text)


def _backup(home: Path) -> list[Finding]:
    """Of an installation that there is, with settings that can be read."""
    place, now_ms = Home(home), SystemClock().now_ms()
    if not place.keys.exists() or check_settings(home):
        return []
    last = read_last(place)
    said = complaint(last, load(home, system_environment()).backup, installed_for(place, now_ms), now_ms)
    if said:
        fix = "Make one with 'entobot backup', or set backup.every: docs/how-to/back-up.md."
        return [Finding("backup", Level.WARNING, said, fix)]
    if last is None:
        return [Finding("backup", Level.OK, "None yet.")]
    looked = "verified" if last.was_verified else "not verified"
    return [Finding("backup", Level.OK, f"{last.file}, of {rfc3339(last.made_at_ms)}, {looked}.")]


def _edge(home: Path) -> list[Finding]:
    """Where there is one; with settings that can be read. It answers whether the gateway runs or not."""
    if check_settings(home):
        return []
    settings = load(home, system_environment()).edge
    if not settings.url:
        return []
    from entobot.app.doctor_edge import trouble

    found = trouble(settings)
    if found is not None:
        return [Finding("edge", Level.FAILURE, *found)]
    return [Finding("edge", Level.OK, f"{settings.url} lets the gateway in.")]


def _newer_store(home: Path) -> list[Finding]:
    """A store that a newer version made is why this one does not start."""
    path = Home(home).database
    try:
        present = version(path)
    except (sqlite3.Error, OSError) as error:
        return [Finding("store", Level.FAILURE, f"{path} cannot be used: {error}.", "Restore a backup.")]
    if present is None or present <= HEAD:
        return []
    return [Finding("store", Level.FAILURE, newer_text(str(path), present), "See docs/how-to/back-up.md.")]


def _voice(gateway: LocalGateway) -> Finding:
    """A choice, and no fault: it is told so that nobody looks for the microphone."""
    why = gateway.request("GET", "/api/v1/voice")["why"]
    return Finding("voice", Level.OK, why or "Recordings are transcribed.")


def _ready(gateway: LocalGateway) -> list[Finding]:
    try:
        checks = gateway.request("GET", "/api/ready")["checks"]
    except Problem as problem:
        found = problem.extra.get("checks")
        if not isinstance(found, list):
            return [Finding("readiness", Level.FAILURE, problem.detail, "See the gateway's log.")]
        checks = cast("list[dict[str, Any]]", found)
    return [Finding(check["name"], Level.OK if check["ok"] else Level.WARNING, _said(check)) for check in checks]


def _posture(gateway: LocalGateway, findings: list[Finding]) -> list[Finding]:
    """What the gateway itself finds weak about how it runs, unless it was told already."""
    posture = gateway.request("GET", "/api/v1/posture")
    told = {finding.name for finding in findings if finding.level is not Level.OK}
    found = [Finding("posture", Level.OK, f"{posture['score']} of 100 points.")]
    for point in posture["points"]:
        name = point["topic"].replace("_", " ")
        if name not in told:
            level = Level.FAILURE if point["grade"] == Grade.BAD else Level.WARNING
            found.append(Finding(name, level, point["what"], point["fix"]))
    return found


def _said(check: dict[str, Any]) -> str:
    since = check.get("for_s")
    return (check["detail"] or "Fine.") + ("" if since is None else f" For {since:.0f} s.")


def _clock(health: dict[str, Any]) -> Finding:
    now = datetime.now(UTC)  # noqa: TID251  compares this process's clock with the gateway's
    skew_s = abs((datetime.fromisoformat(health["server_time"]) - now).total_seconds())
    if skew_s > MAX_SKEW_S:
        return Finding("clock", Level.WARNING, f"It differs by {skew_s:.0f} s from the gateway's.", "Use NTP.")
    return Finding("clock", Level.OK, "In step with the gateway's.")


def _address(home: Path, origin: str) -> list[Finding]:
    host = urlsplit(origin).hostname or ""
    known = {*lan_addresses(), "127.0.0.1", "::1", "localhost", socket.gethostname().lower()}
    settings = load(home, system_environment())
    if settings.gateway.public_url or host in known:
        return [Finding("address", Level.OK, origin)]
    return [
        Finding(
            "address",
            Level.WARNING,
            f"This machine no longer has the address {host}. Paired phones and printed QR codes look for it there.",
            "Give the machine that address again, or set gateway.public_url; phones then pair again.",
        )
    ]


def _networks(home: Path, origin: str) -> Finding:
    """Who may connect. An allow-list that locks out the people beside the machine is told, and how to undo it."""
    gateway = load_effective(home, system_environment()).gateway
    if not gateway.allowed_networks:
        return Finding("networks", Level.OK, "Every address may connect.")
    detail = f"Only {', '.join(gateway.allowed_networks)} may connect."
    left_out = outside_allowed(gateway.allowed_networks, origin)
    if left_out is None:
        return Finding("networks", Level.OK, detail)
    detail += f" That leaves out {left_out}, this machine's own address, and phones beside it."
    fix = "Add its network to gateway.allowed_networks and restart. The command line works in any case."
    return Finding("networks", Level.WARNING, detail, fix)


def _tls(home: Path, origin: str, source: str | None) -> Finding:
    parts = urlsplit(origin)
    if parts.scheme != "https":
        return Finding("certificate", Level.WARNING, "Plain HTTP, on this machine only.", "Leave out tls.mode = 'off'.")
    context = ssl.create_default_context()
    authority = home / "tls" / "ca.crt"
    if source == "local-ca":
        context.load_verify_locations(authority)
    try:
        with (
            socket.create_connection((parts.hostname or "", parts.port or 443), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname=parts.hostname) as secured,
        ):
            not_after = str((secured.getpeercert() or {}).get("notAfter", ""))
    except ssl.SSLCertVerificationError as error:
        detail = f"It does not hold for {origin}: {error.verify_message}."
        return Finding("certificate", Level.FAILURE, detail, "Renew it.")
    except OSError as error:
        return Finding("certificate", Level.FAILURE, f"{origin} does not answer: {error}.", "Look at the firewall.")
    if source == "local-ca":
        # The certificate page tells people to compare it with what stands here.
        fingerprint = fingerprint_sha256(x509.load_pem_x509_certificate(authority.read_bytes()))
        detail = (
            f"Of this gateway's own authority, until {not_after}: no push, no installed app, until phones trust it. "
            f"The authority's fingerprint (SHA-256) is {fingerprint}"
        )
        return Finding("certificate", Level.WARNING, detail, f"Open {origin}/certificate on each phone.")
    return Finding("certificate", Level.OK, f"Holds until {not_after}.")


def _audit(gateway: LocalGateway) -> Finding:
    try:
        found = watched(gateway, lambda _done, _total: None)
    except (Problem, StartupRefused) as error:
        return Finding("audit log", Level.FAILURE, str(error))
    if found["ok"]:
        return Finding("audit log", Level.OK, f"{found['checked']} entries, whole and in order.")
    finding = found["finding"]
    return Finding(
        "audit log", Level.FAILURE, f"Altered at entry {finding['seq']} ({finding['kind']}).", "Find out who."
    )
