"""How often anybody may do what: the one table. Pure.

A request is counted once for its address before anything of it is read, once in its class by address where the class
says so, and in its class by device and user when it is known who asks. The local socket is not counted.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum

from entobot.core.access import ROUTES


class CountedBy(Enum):
    ADDRESS = "address"
    """Before authentication. An IPv6 /64 is one address, and a /48 has a total of its own above them."""
    DEVICE = "device"
    """After authentication. All devices of a user have a total of their own above them."""
    CONNECTION = "connection"


class Rate(StrEnum):
    """A class of things that are counted together. Its settings are `[limits] <name>_per_second` and `<name>_burst`."""

    CONNECTIONS = "connections"
    CREDENTIALS = "credentials"
    EVENTS = "events"
    EXPENSIVE = "expensive"
    FRAMES = "frames"
    PAIRING = "pairing"
    PINGS = "pings"
    READS = "reads"
    RECEIPTS = "receipts"
    REQUESTS = "requests"
    SIGN_INS = "sign_ins"
    TRANSCRIPTIONS = "transcriptions"
    WRITES = "writes"


@dataclass(frozen=True, slots=True)
class Allowance:
    """At most `burst` at once, and `per_second` after that."""

    per_second: float
    burst: int


@dataclass(frozen=True, slots=True)
class Rule:
    counted_by: CountedBy
    what: str
    default: Allowance


RATES: dict[Rate, Rule] = {
    Rate.CONNECTIONS: Rule(CountedBy.ADDRESS, "WebSockets opened", Allowance(100, 5000)),
    Rate.CREDENTIALS: Rule(
        CountedBy.ADDRESS, "refreshes, tickets, new API keys and certificates of boards", Allowance(50, 2000)
    ),
    Rate.EVENTS: Rule(CountedBy.DEVICE, "event streams opened over HTTP", Allowance(2, 30)),
    Rate.EXPENSIVE: Rule(
        CountedBy.DEVICE, "pages and verifications of the audit log, and tries of model providers", Allowance(5, 50)
    ),
    Rate.FRAMES: Rule(CountedBy.DEVICE, "WebSocket frames, and commands over HTTP", Allowance(100, 400)),
    Rate.PAIRING: Rule(CountedBy.ADDRESS, "claims, collects and enrolments", Allowance(5, 100)),
    Rate.PINGS: Rule(CountedBy.CONNECTION, "WebSocket pings and pongs", Allowance(10, 200)),
    Rate.READS: Rule(CountedBy.DEVICE, "reading requests of a device", Allowance(50, 300)),
    Rate.RECEIPTS: Rule(CountedBy.ADDRESS, "receipts of providers of SMS, and SMS that arrive", Allowance(20, 200)),
    Rate.REQUESTS: Rule(CountedBy.ADDRESS, "HTTP requests of any kind", Allowance(50, 200)),
    Rate.SIGN_INS: Rule(CountedBy.ADDRESS, "sign-ins with a browser, successful or not", Allowance(0.5, 20)),
    Rate.TRANSCRIPTIONS: Rule(CountedBy.DEVICE, "recordings to be transcribed", Allowance(0.2, 20)),
    Rate.WRITES: Rule(CountedBy.DEVICE, "writing requests of a device", Allowance(20, 200)),
}
"""Connections and credentials are wide: a whole office may come back from behind one address in the same second."""

ROUTE_RATES: dict[str, Rate] = {
    "GET /api/v1/audit": Rate.EXPENSIVE,
    "GET /api/v1/audit/checkpoint": Rate.EXPENSIVE,
    "GET /api/v1/audit/export": Rate.EXPENSIVE,
    "GET /api/v1/audit/verify": Rate.EXPENSIVE,
    "GET /api/v1/audit/verify/progress": Rate.EXPENSIVE,
    "GET /api/v1/events": Rate.EVENTS,
    "POST /.well-known/est/simpleenroll": Rate.CREDENTIALS,
    "POST /.well-known/est/simplereenroll": Rate.CREDENTIALS,
    "POST /api/v1/agents/{agent}/ag-ui": Rate.EVENTS,
    "POST /api/v1/api-keys": Rate.CREDENTIALS,
    "POST /api/v1/auth/pair": Rate.PAIRING,
    "POST /api/v1/auth/pair/{claim_id}/collect": Rate.PAIRING,
    "POST /api/v1/auth/refresh": Rate.CREDENTIALS,
    "POST /api/v1/auth/ws-ticket": Rate.CREDENTIALS,
    "POST /api/v1/commands": Rate.FRAMES,
    "POST /api/v1/devices/{device_id}/api-keys": Rate.CREDENTIALS,
    "POST /api/v1/enrol": Rate.PAIRING,
    "POST /api/v1/notifications/places/{place_id}/code": Rate.EXPENSIVE,
    "POST /api/v1/notifications/places/{place_id}/test": Rate.EXPENSIVE,
    "POST /api/v1/settings/providers/{name}/test": Rate.EXPENSIVE,
    "POST /api/v1/sign-in/link": Rate.SIGN_INS,
    "POST /api/v1/sign-in/passkey": Rate.SIGN_INS,
    "POST /api/v1/sign-in/passkey/options": Rate.SIGN_INS,
    "POST /api/v1/sign-in/password": Rate.SIGN_INS,
    "POST /api/v1/sms/answers/twilio": Rate.RECEIPTS,
    "POST /api/v1/sms/answers/webhook": Rate.RECEIPTS,
    "POST /api/v1/sms/receipts/twilio/{message_id}": Rate.RECEIPTS,
    "POST /api/v1/sms/receipts/webhook": Rate.RECEIPTS,
    "POST /api/v1/voice/transcriptions": Rate.TRANSCRIPTIONS,
}
"""Routes with a class of their own; every other one is a read or a write."""


def rate_of(method: str, path: str) -> Rate:
    """The class of a route of the access table."""
    return ROUTE_RATES.get(f"{method} {path}", Rate.READS if method == "GET" else Rate.WRITES)


assert set(ROUTE_RATES) <= set(ROUTES), "a rate for a route that does not exist"
