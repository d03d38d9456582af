"""Write docs/reference and the generated JSON Schemas from the code: `python -m tools.reference`, or `make docs`.

Everything that the code says already is taken from there. What it cannot say (what a person should know of an audit
event, a scope or a close code) stands in the tables below; a new name without a sentence here stops this program, and
tests/test_docs.py fails while a written file differs from what would be written now.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import typer
from pydantic import SecretStr
from tools.rest import rest_page
from tools.tables import code, page, table

from entobot.agents.runner import RETRYABLE as RETRYABLE_RUNS
from entobot.agents.runner import RunErrorCode
from entobot.app.gateway import Gateway
from entobot.app.ground import leave_ground
from entobot.audit.events import AuditEvent
from entobot.cli import root
from entobot.client.console import Exit
from entobot.config import ENVIRONMENT_PREFIX, FILE_NAME, MODEL_KEY_VARIABLES, Settings
from entobot.config_alerts import AlertChannel, AlertRule
from entobot.core.access import COMMANDS, FRESH, ROUTES, Access, Open
from entobot.core.alert_rules import RULES
from entobot.core.clock import SystemClock
from entobot.core.errors import RETRYABLE, STATUS, Code
from entobot.core.permissions import DEFAULT_DEVICE_SCOPES, ROLE_SCOPES, WEAKLY_CONFIRMED_SCOPES, Role, Scope
from entobot.core.rates import RATES, ROUTE_RATES, CountedBy
from entobot.core.secrets import SystemEntropy
from entobot.gateway.commands import Command, command_table
from entobot.gateway.connection import Pace
from entobot.gateway.hub import MAX_CONNECTIONS_PER_DEVICE
from entobot.gateway.wire import MAX_FRAME_BYTES, MAX_FRAME_BYTES_BEFORE_AUTHENTICATION, Close
from entobot.home import Home
from entobot.pairing.limits import MAX_FAILURES, MAX_FAILURES_PER_ADDRESS, WINDOW
from entobot.signin import attempts
from entobot.sources import Layers
from entobot.telemetry.metrics import LABELS, PROCESS_METRICS, Kind, Metric
from entobot.web.application import WebSettings, build_application
from entobot.web.http_protocol import MAX_PIPELINED, HttpLimits
from entobot.web.openapi import describe
from entobot.web.pages import Pages, load_pages
from entobot.web.routes import Api

ROOT = Path(__file__).parents[1]
REFERENCE = Path("docs/reference")
DECISIONS = Path("docs/adr")
SITE = Path("mkdocs.yml")
SCHEMAS = Path("docs/schema/v1")
DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_BASE = "https://entobot.invalid/schema/v1"
"""A reserved host name: the schemas name one another by it, and nothing is fetched from there."""
STARTUP_PLACEHOLDER_VERSION = "1"

CLOSE_TEXTS: dict[Close, tuple[str, str]] = {
    Close.DRAINING: (
        "The gateway stops, is too busy to authenticate in time, or its store does not answer.",
        "Come back after `retry_after_s`, else after a random 0.5 to 60 s.",
    ),
    Close.SILENCE: ("Nothing was heard for 75 s, or no `auth` frame came within 5 s.", "Come back at once."),
    Close.SLOW_CONSUMER: (
        "Events waited 30 s for an acknowledgement or for the socket to take them, or more than 1,024 were queued.",
        "Come back and resume.",
    ),
    Close.TOKEN_EXPIRED: (
        "The access token expired, or its epoch is old (suspended and reactivated, credentials replaced).",
        "Refresh, then come back.",
    ),
    Close.RATE_LIMITED: (
        "Too many frames after many warnings, or too many connections of this address wait for authentication.",
        "Come back after `retry_after_s`, else after a random 0.5 to 60 s.",
    ),
    Close.BAD_CREDENTIALS: (
        "A bad signature, an unknown key, a proof for another connection, or a reauthentication as somebody else.",
        "Do not come back with these credentials. Refresh once; if that fails, pair again.",
    ),
    Close.REVOKED: ("The device was revoked.", "Stop. Erase the credentials and pair again with a new key."),
    Close.SUSPENDED: (
        "The device is suspended.",
        "Stop. Try again when the person asks for it, and at most every 15 minutes.",
    ),
    Close.PROTOCOL_ERROR: (
        "A frame that is not of this protocol, at the wrong time, or binary; an acknowledgement of what was not sent.",
        "Stop. This is a defect of the client.",
    ),
    Close.TOO_MANY_CONNECTIONS: (
        "The device opened a fifth connection; this one had been silent longest.",
        "Stop: another connection of the same device is in use.",
    ),
    Close.FRAME_TOO_LARGE: (
        "A frame larger than 256 KiB (8 KiB before `ready`).",
        "Stop. This is a defect of the client.",
    ),
}

SCOPE_TEXTS: dict[Scope, str] = {
    Scope.APPROVE: "See what an agent asks for, and decide it with the device's key.",
    Scope.AUDIT: "Read and verify the audit log.",
    Scope.CHAT: "Conversations, messages, runs, and the event stream over HTTP.",
    Scope.DEVICES_MANAGE: "See every device; rename, suspend, reactivate and revoke those of people not above oneself.",
    Scope.DEVICES_READ: "See every device.",
    Scope.METRICS: "`GET /metrics`, and the details of `/api/ready`.",
    Scope.NOTIFY: "Be notified and asked, on this device; send notifications and questions to oneself, and ask for approvals.",
    Scope.NOTIFY_OTHERS: "Send notifications to other people, and to everybody of a role; ask other people questions.",
    Scope.PAIR: "Invite devices and confirm them, with no more scopes than the inviter holds.",
    Scope.SETTINGS: "Read and change settings over the API; see and renew the certificate.",
    Scope.USERS_MANAGE: "Add, change and disable people; invite devices for them, and see everybody's invites.",
}

AUDIT_TEXTS: dict[str, str] = {
    "alert.acknowledged": "Somebody took up an alert.",
    "alert.cleared": "What an alert told of is over.",
    "alert.fired": "A rule fired: see [alerts](../how-to/alerts.md). No rule looks at these entries.",
    "alert.tested": "Somebody sent a test to a channel of alerts; `outcome` says whether it arrived.",
    "api_key.created": "An API key was made for a board or a script.",
    "api_key.limited": "One API key of a device was limited to `facts.topics`, or is not limited any more.",
    "api_key.revoked": "One API key of a device was ended for good; the device stays.",
    "api_key.rotated": "A device was given another API key; the earlier ones end after `facts.overlap_s`.",
    "approval.already_decided": "A device answered after the first answer; nothing changed.",
    "approval.cancelled": "The run that asked ended, or the agent elsewhere took it back or was cut off, so the question was closed.",
    "approval.code_made": "A code that decides on this approval went out by SMS; which person and number, not the code.",
    "approval.code_refused": "A code that came back by SMS was wrong, used or over; the fifth wrong one ends a person's codes for a day.",
    "approval.decided": "Somebody approved or denied; the signature is kept. By SMS there is none: `verified` is `sms`, `weak` is true.",
    "approval.escalated": "Nobody had decided in time, so further people were asked; `facts.people` says how many.",
    "approval.expired": "Nobody decided in time; nothing was executed.",
    "approval.refused": "A decision was not accepted; `facts.code` says why.",
    "approval.requested": "An agent asked to run a tool.",
    "approval.unconsumed": "A decision was not taken up by its run within ten seconds.",
    "approval.voted": "One of several people agreed; the signature is kept.",
    "approval_rule.ended": "A rule ended before its time; `facts.because` says why.",
    "approval_rule.made": "With an approval, a person made a rule that lets such calls through from then on.",
    "approval_rule.used": "A rule let a tool call through. Nobody was asked.",
    "audit.exported": "Somebody took entries away as a file; the facts say which, the actor who.",
    "audit.personal_erased": "Personal values of entries were erased; the chain stayed whole.",
    "audit.sink_failed": "A receiver of the log did not take it for a minute; nothing is lost, it is tried again.",
    "audit.sink_recovered": "That receiver takes the log again, from where it stopped.",
    "authenticator.added": "A person added an authenticator app; its recovery codes were made with it.",
    "authenticator.removed": "A person removed their authenticator app, and its recovery codes.",
    "auth.refused": "A valid token was shown without, or with somebody else's, proof of its key. At most one a minute.",
    "automation.changed": "A person had an automation say something else.",
    "automation.fired": "An automation fired, and commands a thing.",
    "automation.made": "A person made an automation.",
    "automation.removed": "An automation was removed.",
    "automation.switched": "An automation was switched on or off, by a person or by the gateway, which says why.",
    "bridge.refused": "Another broker sent over a bridge (`subject`) what changes nothing. Told once an hour for each `facts.reason`; counted in `entobot_bridge_refused_total`, and its words are in the log.",
    "callback.failed": "An answer could not be posted to the program that asked; `facts.reason` says why the last try failed.",
    "certificate.issued": "A certificate was ordered by ACME, and is served.",
    "certificate.renewal_failed": "There was no new certificate; `facts.reason` says why. The old one goes on.",
    "certificate.replaced": "A new certificate is served: given files had changed, or the local one was renewed.",
    "device_certificate.issued": "A board got a client certificate by EST; `facts.key_id` is the API key on which it rests.",
    "device_certificate.revoked": "One certificate of a device was ended for good; the device stays.",
    "device.enrolled": "A board became a device by itself, with the enrolment key in `facts`; `is_repeat` had lost the answer.",
    "device.paired": "A device collected its credentials.",
    "device.reactivated": "A suspended device was let in again.",
    "device.labelled": "A device got another type or other tags, by which policies know it.",
    "device.renamed": "A device got another name.",
    "device.revoked": "A device was cut off for good.",
    "device.suspended": "A device was shut out until it is reactivated.",
    "device.topic_denied": "A board published or subscribed where it may not, by MQTT. The first of ten minutes is told at once, the others by `facts.count`. `facts.rule` says what refused it.",
    "enrolment.refused": "A genuine enrolment key was over, or its nonce was used; at most once a minute for each key.",
    "enrolment_key.created": "A key was made with which boards enrol themselves, so many and until then.",
    "enrolment_key.revoked": "An enrolment key was ended; devices that it made are told of one by one, if they were too.",
    "file.added": "A file arrived as a whole; `facts` say of which kind and size. Its name is not in the log.",
    "file.deleted": "A person deleted a file.",
    "file.expired": "A file was not finished, or found no message in time, and was swept.",
    "file.refused": "A file was dropped, since its content is not of a kind that is taken; `facts.reason` says which rule.",
    "gateway.restored": "A backup was restored; `facts` say of when, and how many devices it lets in again.",
    "gateway.started": "The gateway opened its port.",
    "gateway.stopped": "The gateway ended in order. A start without it before means a crash.",
    "invite.burned": "An invite was voided by bad claims or wrong digits; `facts.reason` says which.",
    "invite.cancelled": "An invite was voided by an operator, or because the inviter lost the right.",
    "invite.claim_refused": "An attempt to claim failed and was counted.",
    "invite.claimed": "A device spent an invite's secret.",
    "invite.confirmed": "The operator confirmed a claim.",
    "invite.created": "An invite was opened.",
    "invite.denied": "The operator said no to a claim.",
    "invite.expired": "An invite ran out before its device was paired.",
    "invite.resent": "An invite by SMS was sent again with a new secret; the old one is void.",
    "key.rotated": "The key that signs access tokens was replaced by the next one.",
    "notification.place_added": "A person added a place where they are reached; `facts.channel` says of which kind.",
    "notification.place_confirmed": "The person typed the code that was sent to the address.",
    "notification.place_refused": "A push endpoint or address was refused; `facts.reason` says why.",
    "notification.place_removed": "A place ended: removed by its person, by its service, or with its device.",
    "notification.refused": "A sender was over the limit of notifications. At most one entry a minute.",
    "notification.rules_changed": "A person changed how they want to be reached.",
    "notification.sent_to_others": "Somebody notified another person, or everybody of a role.",
    "notification.tested": "A person sent a test to a place of theirs; `outcome` says whether its service took it.",
    "question.answered": "A person answered a question; the answer itself is not in the log.",
    "question.asked": "A program asked a person something; `facts.user_id` is who is asked.",
    "question.cancelled": "Who asked took a question back, or one of the two has left.",
    "question.declined": "A person said that they will not answer a question.",
    "question.expired": "Nobody answered a question in time.",
    "release.added": "A signed release for boards was taken in; `facts` name type, version and the key that signed it.",
    "release.refused": "A release was not taken: it was malformed, or not signed by a key that is registered here.",
    "release.removed": "A release was removed that was not being rolled out.",
    "release_key.added": "Releases that this public key signed are taken from now on.",
    "release_key.removed": "Releases of this key are not taken any more; what was being rolled out is paused.",
    "rollout.aborted": "A roll-out was ended for good; what was installed stays.",
    "rollout.advanced": "A roll-out went on to its next stage, by itself.",
    "rollout.device_failed": "A board of a roll-out failed, or went back; the reason that it gives is personal.",
    "rollout.done": "Every board of a roll-out has come to an end.",
    "rollout.paused": "A roll-out was paused, by a person or by itself; `facts.why` says why.",
    "rollout.resumed": "A roll-out goes on; what failed so far does not count any more.",
    "rollout.started": "A release is rolled out to the boards of its type.",
    "run.cancelled": "A person stopped a run.",
    "settings.changed": "A setting was changed: `subject` is its key, `from` and `to` are JSON.",
    "sms.accepted": "A provider took an SMS; what came of it stands in the list of invites.",
    "sms.failed": "An SMS was refused, did not arrive, or nobody knows; `facts.state` and `facts.reason` say which.",
    "sms.receipt_refused": "Requests that claimed to come from the provider of SMS. One entry in ten minutes for a network and reason.",
    "sms.refused": "SMS that were not posted: a limit, a number, or STOP. One entry in ten minutes for a person.",
    "sms.started": "A number's owner said START after STOP: it may be written to again.",
    "sms.stopped": "A number's owner said STOP: nothing more is sent there.",
    "thing.command_refused": "Somebody may not give this command to the thing (`subject`); nothing was sent. `facts.rule` says what refused it, `facts.via` how it came, `facts.command` which, where the thing has it. The first of ten minutes is told at once, the others by `facts.count`.",
    "thing.commanded": "A thing was told to do something; `facts.via` says whether a person, the agent or an automation did it. The arguments are personal.",
    "thing.typed": "A device was said to be of a type, or of none; what it may send and be told is judged by that from now on.",
    "thing_type.changed": "A type of things was made or replaced; `facts.commands` has each command with its risk.",
    "thing_type.removed": "A type was removed that no thing was of.",
    "token.family_caught_up": "A device showed a newer refresh token than the store knew: the store is an older copy.",
    "token.family_revoked": "A refresh token was used that had been replaced: all credentials of the device were ended.",
    "token.refresh_refused": "A valid refresh token was shown with another device's key. At most one a minute.",
    "tool.executed": "A tool ran; `outcome` says how it ended.",
    "tool.outcome_unknown": "The gateway stopped while a tool ran. It is not run again.",
    "passkey.added": "A person added a passkey.",
    "passkey.removed": "A person removed a passkey.",
    "password.removed": "A person removed their password.",
    "password.set": "A person set a password, or changed it: then their other sessions ended.",
    "recovery_code.used": "Somebody signed in with a recovery code; `facts.left` says how many there are still.",
    "policy.changed": "A policy was stored or replaced. `facts.version` counts the changes of all policies; every text is kept.",
    "policy.removed": "A policy was taken out of force.",
    "recovery_codes.made": "A person had new recovery codes made; those before are void.",
    "session.ended": "A browser was signed out.",
    "session.opened": "Somebody signed in with a browser; `facts.method` says how.",
    "sign_in.link_made": "A one-time link to sign in was made for a person.",
    "sign_in.refused": "A password, or the code after it, was refused; or a right password came without the code (`no_code`, from a browser that is new to the person) or where the role wants a second factor and there is none (`no_second_factor`). One entry at once, then one each ten minutes for an account, a network and a reason, with `facts.count`.",
    "user.added": "A person was added, in a role.",
    "user.changed": "A person got another name or role.",
    "user.disabled": "A person was shut out; their devices were revoked and their runs ended.",
    "user.enabled": "A disabled person was let in again.",
    "user.factors_reset": "All that a person signs in with was taken away, and their sessions ended.",
    "voice.transcribed": "A recording became text for its person; what was said is not in the log.",
}

RUN_ERROR_TEXTS: dict[RunErrorCode, str] = {
    RunErrorCode.AGENT_NOT_READY: "The agent could not be loaded. The gateway's log says why.",
    RunErrorCode.ANSWER_TOO_LARGE: "The answer is longer than 128 KiB.",
    RunErrorCode.EMPTY_ANSWER: "The model ended without text and without a tool call.",
    RunErrorCode.GATEWAY_RESTARTED: "The gateway stopped while the model was writing.",
    RunErrorCode.INTERNAL: "Something failed in the gateway. Its log says what.",
    RunErrorCode.ITERATION_LIMIT: "The run made `agent.max_iterations` model calls without coming to an answer.",
    RunErrorCode.PROVIDER_ERROR: "The model's server failed, or its answer broke off.",
    RunErrorCode.PROVIDER_OUT_OF_CREDIT: "The account at the vendor has no credit.",
    RunErrorCode.PROVIDER_RATE_LIMITED: "The vendor limits how often it may be asked.",
    RunErrorCode.PROVIDER_REJECTED: "The vendor refused the request or withheld the answer.",
    RunErrorCode.PROVIDER_TIMEOUT: "The model did not finish within `agent.run_timeout`.",
    RunErrorCode.PROVIDER_UNAUTHORIZED: "The vendor does not accept the key.",
    RunErrorCode.PROVIDER_UNREACHABLE: "The model's server cannot be reached.",
    RunErrorCode.TOOL_OUTCOME_UNKNOWN: "The gateway stopped while a tool ran; whether it took effect is not known.",
}

EXIT_TEXTS: dict[Exit, str] = {
    Exit.DONE: "Done.",
    Exit.REFUSED: "The gateway refused, or a check found something. The reason is on standard error.",
    Exit.USAGE: "The command line is wrong.",
    Exit.NOT_RUNNING: "No gateway runs on this data folder.",
    Exit.NOT_ALLOWED: "Not allowed.",
    Exit.NOT_FOUND: "There is no such thing.",
    Exit.GAVE_UP: "Pairing ended without a device.",
}


# -- what the running code knows


class Facts:
    """The assembled gateway: its commands, its routes, and its OpenAPI document. Nothing is started or listened on."""

    def __init__(self, commands: Mapping[str, Command], served: frozenset[str], openapi: dict[str, Any]) -> None:
        self.commands = commands
        self.served = served
        self.openapi = openapi


def collect() -> Facts:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_collect(Path(folder)))


async def _collect(folder: Path) -> Facts:
    layers = Layers({"gateway": {"public_url": "https://gateway.example:18790"}})
    gateway = await Gateway.open(Home(folder / "home"), layers, {}, clock=SystemClock(), entropy=SystemEntropy())
    try:
        api = Api(gateway.devices, gateway._idempotency)  # noqa: SLF001  the composition root shows its parts to nobody else
        gateway._add_routes(api)  # noqa: SLF001
        web = WebSettings(gateway.ground.origin, STARTUP_PLACEHOLDER_VERSION, "Example")
        app = build_application(
            api, settings=web, pages=_pages(), ready=_never, clock=gateway.ground.clock, entropy=gateway.ground.entropy
        )
        document = describe(app.routes, api.rules, STARTUP_PLACEHOLDER_VERSION)
        served = frozenset(f"{rule.method} {rule.path}" for rule in api.rules)
        return Facts(command_table(gateway._commands), served, document)  # noqa: SLF001
    finally:
        await leave_ground(gateway.ground)


def _pages() -> Pages:
    with tempfile.TemporaryDirectory() as folder:
        return load_pages(Path(folder))


async def _never() -> Any:
    raise AssertionError("nothing is served here")


# -- markdown


def access_text(access: Access) -> str:
    if isinstance(access, Scope):
        return f"scope `{access}`"
    return {
        Open.ANYONE: "anyone",
        Open.PROOF: "a DPoP proof by the device key",
        Open.AUTHENTICATED: "any device, for its own user's objects",
    }[access]


def settings_page() -> str:
    lead = (
        f"Settings stand in `{FILE_NAME}` in the data folder, by section. A variable in the environment beats the "
        "file, even when it is empty; an option of `entobot up` beats both. An unknown key or variable refuses to "
        "start. What was changed while the gateway ran is stored between the two ([how](../how-to/settings.md)). "
        "Durations are seconds or ISO 8601 (`PT10M`). `entobot config show` prints what is in force and where "
        "each value comes from."
    )
    parts: list[str] = []
    defaults = Settings()
    for name in Settings.model_fields:
        section = getattr(defaults, name)
        rows: list[list[str]] = []
        for key, field in type(section).model_fields.items():
            if not field.description:
                raise SystemExit(f"{name}.{key} has no description in config.py.")
            variable = f"{ENVIRONMENT_PREFIX}{name}__{key}".upper()
            rows.append([code(key), code(_shown(getattr(section, key))), code(variable), field.description])
        parts += [f"## `[{name}]`\n", table(("key", "default", "variable", "meaning"), rows)]
    others = [["`ENTOBOT_HOME`", "The data folder; `~/.entobot` by default."]]
    others += [[code(variable), f"Model key for {vendor}."] for vendor, variable in MODEL_KEY_VARIABLES.items()]
    others.append(["`OPENAI_BASE_URL`", "Used like `agent.base_url` when that is empty."])
    return page("Settings", lead, *parts, "## Other variables\n", table(("variable", "meaning"), others))


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return ""
    if value is None or value == ():
        return ""
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.0f} s"
    return str(value)


def errors_page() -> str:
    rows = [
        [
            f"[`{one}`](../how-to/troubleshoot.md#{one})",
            str(STATUS[one]),
            "yes" if one in RETRYABLE else "no",
        ]
        for one in Code
    ]
    runs = [[code(one), "yes" if one in RETRYABLE_RUNS else "no", RUN_ERROR_TEXTS[one]] for one in RunErrorCode]
    return page(
        "Errors",
        "Every refusal carries one of these codes: over HTTP in `application/problem+json` (RFC 9457), over the "
        "WebSocket in an `error` frame. *Retry* says whether the same request may succeed later. Each code links to "
        "what happened and what to do. The gateway serves this list at `/docs/errors`.",
        table(("code", "HTTP status", "retry"), rows),
        "## Errors of a run\n",
        "`code` of the event `RUN_ERROR`, and `error.code` of a message that got no answer. A stopped run has the "
        "code `cancelled` there.\n",
        table(("code", "retry", "meaning"), runs),
    )


def close_codes_page() -> str:
    rows = [[str(int(one)), code(one.name.lower()), *CLOSE_TEXTS[one]] for one in Close]
    return page(
        "Close codes",
        "Why the gateway ends a WebSocket. 4000 to 4499: come back. 4500 to 4999: do not, until something has "
        "changed. Wait with full jitter, 0.5 s growing to 60 s. Over `GET /api/v1/events` the same code stands in "
        "the last comment line. Standard codes appear too: 1002, 1007 and 1011 as in RFC 6455, and 1012 when the "
        "listener stops (come back).",
        table(("code", "name", "why", "what the client does"), rows),
    )


def commands_page(facts: Facts) -> str:
    parts: list[str] = []
    for name, access in COMMANDS.items():
        command = facts.commands.get(name)
        parts.append(f"## `{name}`\n")
        if command is None:
            parts.append("Not served in this version.\n")
            continue
        kind = "writes, idempotent by its id for 24 h" if command.writes else "reads only"
        parts.append(f"Needs {access_text(access)}; {kind}.\n")
        rows = list(_fields(_own_schema(command.data)))
        parts.append(table(("member", "type", "required"), rows) if rows else "No members.\n")
        parts.append(f"Result: [`{name}` in results.json](../schema/v1/results.json).\n")
    return page(
        "Commands",
        "What a device may ask for, over the WebSocket (`command` frame) and over `POST /api/v1/commands` alike. "
        "Unknown members are refused. Schemas: [commands.json](../schema/v1/commands.json) for `data`, "
        "[results.json](../schema/v1/results.json) for the result.",
        *parts,
    )


def _own_schema(data: type) -> dict[str, Any]:
    schema = msgspec.json.schema(data)
    return schema["$defs"][schema["$ref"].rpartition("/")[2]]


def _fields(schema: dict[str, Any]) -> Iterator[list[str]]:
    required = schema.get("required", [])
    for name, member in schema.get("properties", {}).items():
        default = "" if member.get("default") is None else f", default `{member['default']}`"
        yield [code(name), _type(member) + default, "yes" if name in required else "no"]


def _type(member: dict[str, Any]) -> str:
    if "anyOf" in member:
        return " or ".join(_type(one) for one in member["anyOf"])
    if "enum" in member:
        return " or ".join(code(one) for one in member["enum"])
    if "$ref" in member:
        return f"object `{member['$ref'].rpartition('/')[2]}`"
    bounds = [
        f"{word} {member[key]}"
        for key, word in (("minimum", "from"), ("maximum", "to"), ("maxLength", "at most"))
        if key in member
    ]
    unit = " characters" if "maxLength" in member else ""
    return member.get("type", "any JSON") + (f", {' '.join(bounds)}{unit}" if bounds else "")


def events_page() -> str:
    schema = json.loads((ROOT / SCHEMAS / "events.json").read_text("utf-8"))
    rows = [
        [
            code(name),
            "yes" if one["x-durable"] else "no",
            code(one["x-scope"]),
            code(one["x-topic"]),
            one["description"],
        ]
        for name, one in schema["$defs"].items()
        if "x-durable" in one
    ]
    return page(
        "Events",
        "What the gateway tells a device, as the `event` member of an `event` frame. Durable events have a `seq`, "
        "are replayed after a reconnect and survive a crash; the others are live only and may be dropped. A device "
        "gets those whose scope it holds. Names in capitals are AG-UI 1.0. Shapes: "
        "[events.json](../schema/v1/events.json). Clients ignore events and members that they do not know.",
        table(("event", "durable", "scope", "topic", "meaning"), rows),
    )


def audit_events_page() -> str:
    rows = [[code(one), AUDIT_TEXTS[one]] for one in AuditEvent]
    return page(
        "Audit events",
        "What the audit log records. Read it with `entobot audit list --event invite.`, check it with "
        "`entobot audit verify`. `outcome` is `success`, `denied` or `failure`.",
        table(("event", "meaning"), rows),
    )


def access_page(facts: Facts) -> str:
    def status(is_served: bool) -> str:  # noqa: FBT001  a word for a flag
        return "" if is_served else "not in this version"

    routes = [
        [code(name), access_text(access), "yes" if name in FRESH else "", status(name in facts.served)]
        for name, access in sorted(ROUTES.items(), key=lambda item: (item[0].partition(" ")[2], item[0]))
    ]
    commands = [[code(name), access_text(access), status(name in facts.commands)] for name, access in COMMANDS.items()]
    return page(
        "Who may call what",
        "The table that the gateway itself uses (`core/access.py`): a route or command that is not in it cannot be "
        "registered. The local Unix socket acts as the owner. The built pages are open to anyone. "
        "What wants a fresh sign-in is refused with `step_up_required` to a browser that signed in more than five "
        "minutes ago.",
        "## Routes\n",
        table(("route", "who", "fresh sign-in", ""), routes),
        "## Commands\n",
        table(("command", "who", ""), commands),
    )


def metrics_page() -> str:
    rows = [[code(one.value.name), one.value.kind, _labels(one), one.value.meaning] for one in Metric]
    process = [
        [code(name), Kind.COUNTER if name.endswith("_total") else Kind.GAUGE, "", text]
        for name, text in PROCESS_METRICS.items()
    ]
    labels = [[code(name), text] for name, text in LABELS.items()]
    return page(
        "Metrics",
        "What `GET /metrics` and `entobot metrics` tell, of one process. A histogram has `_bucket`, `_sum` and "
        "`_count`. Labels hold words of the gateway's own, never an id, an address, a path or a text from outside. "
        "How to read them: [monitoring](../how-to/monitoring.md).",
        table(("metric", "kind", "labels", "meaning"), rows + process),
        "## Labels\n",
        table(("label", "value"), labels),
    )


def _labels(metric: Metric) -> str:
    return " ".join(map(code, metric.value.labels))


def scopes_page() -> str:
    rows = [
        [
            code(one),
            SCOPE_TEXTS[one],
            "yes" if one in DEFAULT_DEVICE_SCOPES else "on request",
            "yes" if one in WEAKLY_CONFIRMED_SCOPES else "no",
        ]
        for one in Scope
    ]
    roles = [[code(role), " ".join(code(one) for one in sorted(ROLE_SCOPES[role]))] for role in Role]
    return page(
        "Scopes",
        "What a device may do. A device never holds more than its user's role, nor more than whoever invited it.",
        table(("scope", "allows", "given by default", "without typed digits"), rows),
        "## Roles\n",
        table(("role", "holds at most"), roles),
    )


def cli_page() -> str:
    parts = list(_commands("entobot", typer.main.get_command(root)))
    exits = [[str(int(one)), EXIT_TEXTS[one]] for one in Exit]
    return page(
        "Command line",
        "`entobot --home FOLDER …` (or `ENTOBOT_HOME`) chooses the data folder. `up`, `version` and `config` work by "
        "themselves, `doctor`, `backup` and `upgrade-check` with or without a gateway, `restore` without one; all others talk to the running gateway over a private socket "
        "in that folder, as the owner. `--json` prints what programs read, in the shapes of the REST API.",
        "## Exit codes\n",
        table(("code", "meaning"), exits),
        *parts,
    )


def _commands(path: str, command: Any) -> Iterator[str]:
    children: dict[str, Any] = getattr(command, "commands", {})
    if path != "entobot" and (not children or command.invoke_without_command):
        if not command.help:
            raise SystemExit(f"{path} has no help text.")
        yield _command(path, command)
    for name, child in children.items():
        yield from _commands(f"{path} {name}", child)


def _command(path: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not getattr(p, "hidden", False)]
    usage = [path] + (["[OPTIONS]"] if options else [])
    usage += [p.name.upper() if p.required else f"[{p.name.upper()}]" for p in arguments]
    lines = [f"## `{path}`\n", f"{command.help}\n", f"```\n{' '.join(usage)}\n```\n"]
    rows = [[code(p.name.upper()), getattr(p, "help", None) or "", "yes" if p.required else "no"] for p in arguments]
    if rows:
        lines.append(table(("argument", "meaning", "required"), rows))
    rows = [[code(" ".join(p.opts)), p.help or "", _default(p)] for p in options if p.name != "help"]
    if rows:
        lines.append(table(("option", "meaning", "default"), rows))
    return "\n".join(lines)


def _default(parameter: Any) -> str:
    value = parameter.default
    return "" if value is None or value is False or value == "" or callable(value) else code(value)


def _paced(at_once: int, every_s: float) -> str:
    return f"{at_once}, then one in {every_s:.0f} s"


def alerts_page() -> str:
    rows = [
        [
            code(rule_id),
            rule.severity,
            rule.what,
            f"{'≤' if rule.is_low else '≥'} {rule.threshold:g} {rule.unit}".rstrip(),
            f"{rule.window.total_seconds():.0f} s" if rule.window else "",
            rule.watches,
            rule.fix,
        ]
        for rule_id, rule in RULES.items()
    ]
    channel = [[code(name), field.description or ""] for name, field in AlertChannel.model_fields.items()]
    change = [[code(name), field.description or ""] for name, field in AlertRule.model_fields.items()]
    return page(
        "Alerts",
        "The rules that are built in. `log`: entries of the audit log, counted in the window. `metric`: how much a number "
        "of one node grew in the window. `level`: a number of one node that stays beyond the threshold for the window. "
        "`store`: what all nodes share. What is counted is over at half the threshold, a level that must not sink a "
        "fifth above it. [How to use them](../how-to/alerts.md).",
        table(("rule", "severity", "looks at", "fires at", "window", "kind", "what to do"), rows),
        "## A table of `[[alerts.rules]]`\n",
        table(("key", "meaning"), change),
        "## A table of `[[alerts.channels]]`\n",
        table(("key", "meaning"), channel),
    )


def limits_page() -> str:
    limits, http, pace = Settings().limits, HttpLimits(), Pace()
    counted = {
        CountedBy.ADDRESS: "address, before anything is read or checked",
        CountedBy.DEVICE: "device, and its user",
        CountedBy.CONNECTION: "connection",
    }
    rates = [
        [code(rate), rule.what, counted[rule.counted_by], f"{rule.default.per_second:g}", str(rule.default.burst)]
        for rate, rule in RATES.items()
    ]
    routes = [[code(route), code(rate)] for route, rate in ROUTE_RATES.items()]
    fixed = [
        ["TLS handshake", f"{http.tls_handshake.total_seconds():.0f} s"],
        ["PROXY header, TLS and a request's head together", f"{http.request_head.total_seconds():.0f} s"],
        ["a request's body", f"{http.request_body.total_seconds():.0f} s"],
        ["a kept connection without a request", f"{http.keep_alive.total_seconds():.0f} s"],
        ["a reader that takes nothing", f"{http.stalled_write.total_seconds():.0f} s"],
        ["a request's head", f"{http.max_head_bytes // 1024} KiB"],
        ["requests of a connection that wait behind another", str(MAX_PIPELINED)],
        ["first frame of a WebSocket", f"{pace.auth_s:.0f} s, {MAX_FRAME_BYTES_BEFORE_AUTHENTICATION // 1024} KiB"],
        ["a frame", f"{MAX_FRAME_BYTES // 1024} KiB"],
        ["commands of a connection without an answer yet", str(pace.max_commands_in_flight)],
        ["WebSockets of a device", str(MAX_CONNECTIONS_PER_DEVICE)],
        ["failed claims of an address", f"{MAX_FAILURES_PER_ADDRESS} in {WINDOW.seconds // 60} minutes"],
        ["failed claims in all", f"{MAX_FAILURES} in {WINDOW.seconds // 60} minutes"],
        ["passwords with one login from one network", _paced(attempts.PER_PLACE_AT_ONCE, attempts.PER_PLACE_EVERY_S)],
        ["passwords with one login in all", _paced(attempts.PER_LOGIN_AT_ONCE, attempts.PER_LOGIN_EVERY_S)],
        [
            "passwords in a browser where this person signed in before",
            _paced(attempts.PER_BROWSER_AT_ONCE, attempts.PER_BROWSER_EVERY_S) + ", counted apart",
        ],
        ["wrong codes after the right password", _paced(attempts.CODES_AT_ONCE, attempts.CODES_EVERY_S)],
    ]
    return page(
        "Limits",
        "Over a limit a request is answered 429 with `retry_after_s` and `Retry-After`; a frame with an `error` that "
        "says the same; a connection is told and closed with 4004. Waiting as told is always enough. The local socket "
        "has no rates. Where several nodes run, each gives its part of every rate.",
        "## Rates\n",
        f"`[limits]` holds `<class>_per_second` and `<class>_burst`. A user's devices together have "
        f"{limits.user_multiple} times one device's (`user_multiple`), an IPv6 /48 has {limits.network_multiple} times "
        "one address's (`network_multiple`); an IPv6 /64 is one address.\n",
        table(("class", "what is counted", "by", "a second", "at once"), rates),
        "## Classes of routes\n",
        "Every request counts as `requests` first. `GET` is a read, everything else a write, but:\n",
        table(("route", "class"), routes),
        "## Counts\n",
        f"Connections: `gateway.max_connections` in all, of them half from one address "
        f"(`gateway.max_connections_per_address`). Not asked anything yet: {limits.opening_per_address} an address, "
        f"{limits.opening} in all. WebSockets not authenticated yet: {limits.unauthenticated_per_address} an address, "
        f"{limits.unauthenticated} in all. Where such a place is missing, whoever has waited longest, two seconds at "
        "least, makes room. Connections of trusted proxies count in all only.\n",
        "## Fixed\n",
        table(("what", "at most"), fixed),
    )


def index_page() -> str:
    rows = [
        ("settings.md", "every setting, its default and its variable"),
        ("cli.md", "every command and its exit codes"),
        ("errors.md", "every error code"),
        ("close-codes.md", "why a WebSocket was closed"),
        ("commands.md", "what a device may ask for"),
        ("events.md", "what a device is told"),
        ("access.md", "who may call which route and command"),
        ("limits.md", "how often, how many, how large, how long"),
        ("metrics.md", "every metric"),
        ("rest.md", "every route: who may call it, what it takes and answers"),
        ("alerts.md", "what raises an alert, and what to do"),
        ("scopes.md", "what each scope allows"),
        ("audit-events.md", "what the audit log records"),
    ]
    links = [[f"[{name}]({name})", text] for name, text in rows]
    return page(
        "Reference",
        "Written from the code by `make docs`. The REST interface for programs: "
        "[openapi.json](../schema/v1/openapi.json), which the gateway serves at `/api/openapi.json`, with pages at "
        "`/api/docs`.",
        table(("page", "holds"), links),
    )


# -- schemas


def commands_schema(facts: Facts) -> dict[str, Any]:
    """`data` of every command, under its name."""
    found = {name: _inlined(msgspec.json.schema(command.data)) for name, command in sorted(facts.commands.items())}
    return {
        "$schema": DIALECT,
        "$id": f"{SCHEMA_BASE}/commands.json",
        "title": "The data of each command",
        "$defs": found,
    }


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    definitions: dict[str, Any] = schema.get("$defs", {})

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(one) for one in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return walk(definitions[node["$ref"].rpartition("/")[2]])
        is_noise = {"$defs", "title"} if isinstance(node.get("title", ""), str) else {"$defs"}
        return {key: walk(value) for key, value in node.items() if key not in is_noise}

    return walk(schema)


def documents() -> dict[Path, str]:
    """Every generated file, by its path in the repository."""
    facts = collect()
    written = {
        REFERENCE / "README.md": index_page(),
        REFERENCE / "access.md": access_page(facts),
        REFERENCE / "alerts.md": alerts_page(),
        REFERENCE / "audit-events.md": audit_events_page(),
        REFERENCE / "cli.md": cli_page(),
        REFERENCE / "close-codes.md": close_codes_page(),
        REFERENCE / "commands.md": commands_page(facts),
        REFERENCE / "errors.md": errors_page(),
        REFERENCE / "events.md": events_page(),
        REFERENCE / "limits.md": limits_page(),
        REFERENCE / "metrics.md": metrics_page(),
        REFERENCE / "rest.md": rest_page(facts.openapi, lambda route: access_text(ROUTES[route]), FRESH),
        REFERENCE / "scopes.md": scopes_page(),
        REFERENCE / "settings.md": settings_page(),
        SCHEMAS / "commands.json": _json(commands_schema(facts)),
        SCHEMAS / "openapi.json": _json(facts.openapi),
    }
    return written | {SITE: site_index(written)}


def site_index(written: Iterable[Path]) -> str:
    """mkdocs.yml, its lists of reference pages and of decisions as they are now."""
    text = (ROOT / SITE).read_text("utf-8")
    pages = sorted(path.name for path in written if path.parent == REFERENCE and path.name != "README.md")
    decisions = sorted(path.name for path in (ROOT / DECISIONS).glob("0*.md"))
    text = _listed(text, "reference", [f"reference/{name}" for name in ("README.md", *pages)])
    return _listed(
        text, "decisions", [f"adr/{name}" for name in ("README.md", *decisions, "template.md", "dependencies.md")]
    )


def _listed(text: str, name: str, paths: list[str]) -> str:
    """The lines between the marks of `name`, which say how far they stand in."""
    begin, end = f"# {name}: written by `make docs`\n", f"# end of {name}\n"
    before, _, rest = text.partition(begin)
    old, _, after = rest.partition(end)
    indent = before.rpartition("\n")[2]
    if not old:
        raise SystemExit(f"{SITE} has no place for {name}.")
    return before + begin + "".join(f"{indent}- {path}\n" for path in paths) + indent + end + after


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=False) + "\n"


def main(*arguments: str) -> int:
    is_check = "--check" in arguments
    changed = 0
    for path, text in documents().items():
        file = ROOT / path
        if file.exists() and file.read_text("utf-8") == text:
            continue
        changed += 1
        sys.stdout.write(f"{'differs' if is_check else 'written'}: {path}\n")
        if not is_check:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
    return 1 if is_check and changed else 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
