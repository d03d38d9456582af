"""What raises an alert: the one table. Pure.

A rule fires where its value reaches `threshold`, and is over where the value has gone back well behind it. No rule looks
at what alerts do themselves.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class RuleId(StrEnum):
    """Sorted. `[[alerts.rules]]` names a rule by it."""

    APPROVAL_UNCONSUMED = "approval_unconsumed"
    AUDIT_CHAIN_BROKEN = "audit_chain_broken"
    AUDIT_SINK_FAILED = "audit_sink_failed"
    AUDIT_SINK_LAG = "audit_sink_lag"
    BACKUP_OVERDUE = "backup_overdue"
    BUS_DOWN = "bus_down"
    CERTIFICATE_ENDS = "certificate_ends"
    CERTIFICATE_RENEWAL_FAILED = "certificate_renewal_failed"
    CREDENTIALS_REFUSED = "credentials_refused"
    DELIVERY_WAITING = "delivery_waiting"
    DEVICE_PAIRED = "device_paired"
    DISK_LOW = "disk_low"
    LIMITS_HIT = "limits_hit"
    LOOP_LATE = "loop_late"
    NOTIFICATIONS_FAIL = "notifications_fail"
    PAIRING_REFUSED = "pairing_refused"
    PERSON_RAISED = "person_raised"
    SIGN_INS_REFUSED = "sign_ins_refused"
    SMS_FAIL = "sms_fail"
    STORE_DOWN = "store_down"
    STORE_QUEUE = "store_queue"
    TOKEN_REUSED = "token_reused"  # noqa: S105  a rule's name


class Severity(StrEnum):
    CRITICAL = "critical"
    INFO = "info"
    WARNING = "warning"


RANK = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


class Watches(StrEnum):
    LOG = "log"
    """Entries of the audit log, counted in the window. Of several nodes one looks."""
    METRIC = "metric"
    """How much a counter of a node grew in the window."""
    LEVEL = "level"
    """A number of a node, where it stays beyond the threshold for the window."""
    STORE = "store"
    """What all nodes share. Of several nodes one looks."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`window`: within which is counted, or for how long a level must hold; see `Watches`.

    `is_low`: fires at or below the threshold. `is_news`: each of its things (a device, a person) has an alert of its
    own, and nobody is told that it is over.
    """

    title: str
    what: str
    severity: Severity
    watches: Watches
    threshold: float
    window: timedelta
    fix: str
    docs: str
    unit: str = ""
    is_low: bool = False
    is_news: bool = False

    def is_beyond(self, value: float, threshold: float) -> bool:
        return value <= threshold if self.is_low else value >= threshold

    def is_over(self, value: float, threshold: float) -> bool:
        """Well behind the threshold: what hovers around it neither fires nor ends again and again."""
        return value > threshold * 1.2 if self.is_low else value <= threshold / 2


def _log(title: str, what: str, severity: Severity, threshold: float, window: timedelta, fix: str, docs: str) -> Rule:
    return Rule(title, what, severity, Watches.LOG, threshold, window, fix, docs)


def _news(title: str, what: str, severity: Severity, fix: str, docs: str) -> Rule:
    return Rule(title, what, severity, Watches.LOG, 1, timedelta(hours=1), fix, docs, is_news=True)


_MINUTE = timedelta(minutes=1)
_MONITORING = "docs/how-to/monitoring.md"

RULES: dict[RuleId, Rule] = {
    RuleId.APPROVAL_UNCONSUMED: Rule(
        "Decisions of people are not carried out",
        "Approvals that were decided and that no run takes up.",
        Severity.WARNING,
        Watches.LEVEL,
        1,
        timedelta(seconds=30),
        "See 'entobot approvals list --state all' for which. Usually another call of the same run takes long, or the node "
        "that drives the run is overloaded or gone.",
        "docs/how-to/approvals.md",
        unit="decisions",
    ),
    RuleId.AUDIT_CHAIN_BROKEN: Rule(
        "The audit log was altered",
        "What the verification of the audit log finds: new entries every few minutes, the whole log once a day.",
        Severity.CRITICAL,
        Watches.STORE,
        1,
        timedelta(0),
        "Run 'entobot audit verify', which names the entry. Somebody, or a broken disk, changed the database behind the "
        "gateway: keep a copy of it, compare it with your exports and checkpoints, and find out who can write to it.",
        "docs/how-to/audit.md",
        unit="findings",
    ),
    RuleId.AUDIT_SINK_FAILED: _log(
        "The audit log does not reach a receiver",
        "Receivers of the audit log that take nothing for a minute, until they take it again.",
        Severity.WARNING,
        1,
        timedelta(days=30),
        "Look at the receiver and at its token and certificate. Nothing is lost: what it misses is sent when it is back.",
        "docs/how-to/audit.md",
    ),
    RuleId.AUDIT_SINK_LAG: Rule(
        "A receiver of the audit log is far behind",
        "Entries of the audit log that a receiver has not taken yet.",
        Severity.WARNING,
        Watches.LEVEL,
        10_000,
        10 * _MINUTE,
        "Look at why the receiver is slow or away. It is sent everything, in order, when it can take it.",
        "docs/how-to/audit.md",
        unit="entries",
    ),
    RuleId.BACKUP_OVERDUE: Rule(
        "A backup is overdue",
        "The last good backup: late by the schedule, failed, or a week old where there is none.",
        Severity.WARNING,
        Watches.LEVEL,
        1,
        timedelta(0),
        "Run 'entobot backup make' and read what it says. Set [backup] so that it happens by itself.",
        "docs/how-to/back-up.md",
    ),
    RuleId.BUS_DOWN: Rule(
        "Nodes cannot ring one another",
        "The bus between nodes.",
        Severity.WARNING,
        Watches.LEVEL,
        0,
        2 * _MINUTE,
        "Look at the bus's server. Events come late meanwhile, and none is lost.",
        "docs/how-to/many-nodes.md",
        is_low=True,
    ),
    RuleId.CERTIFICATE_ENDS: Rule(
        "The certificate ends soon",
        "Days until the certificate that is served ends.",
        Severity.CRITICAL,
        Watches.LEVEL,
        3,
        timedelta(0),
        "See 'entobot cert status' for what keeps it from being renewed, then run 'entobot cert renew'.",
        "docs/how-to/public-certificate.md",
        unit="days left",
        is_low=True,
    ),
    RuleId.CERTIFICATE_RENEWAL_FAILED: _log(
        "The certificate was not renewed",
        "Tries for a new certificate that failed, until one goes well.",
        Severity.WARNING,
        2,
        timedelta(days=2),
        "See 'entobot cert status' for the reason. It is tried again, and the old certificate goes on until it ends.",
        "docs/how-to/public-certificate.md",
    ),
    RuleId.CREDENTIALS_REFUSED: Rule(
        "Many credentials are refused",
        "Tokens, keys and proofs of devices that were refused on a node.",
        Severity.WARNING,
        Watches.METRIC,
        100,
        5 * _MINUTE,
        "The gateway's log names the addresses (credentials.refused). Shut them out with fail2ban or a firewall; if it is "
        "a device of yours, pair it again.",
        "docs/how-to/deploy.md",
        unit="refusals",
    ),
    RuleId.DELIVERY_WAITING: Rule(
        "Events wait long to be delivered",
        "Events that connections of a node are still to be sent.",
        Severity.WARNING,
        Watches.LEVEL,
        10_000,
        5 * _MINUTE,
        "Look at the dashboard for delivery: slow networks, or a store that is slow.",
        _MONITORING,
        unit="events",
    ),
    RuleId.DEVICE_PAIRED: _news(
        "A new device was paired",
        "Devices that collect their credentials, and API keys that are made.",
        Severity.INFO,
        "If nobody of you did this: 'entobot devices revoke ID', then look in the audit log who invited it.",
        "docs/how-to/audit.md",
    ),
    RuleId.DISK_LOW: Rule(
        "The disk is nearly full",
        "Free space on the disk of the data folder, in percent.",
        Severity.CRITICAL,
        Watches.LEVEL,
        10,
        _MINUTE,
        "Make room, or move the data folder to a larger disk. On a full disk nothing can be stored, alerts included.",
        _MONITORING,
        unit="percent free",
        is_low=True,
    ),
    RuleId.LIMITS_HIT: Rule(
        "Limits are hit often",
        "Requests, connections and frames on a node that were over a limit.",
        Severity.WARNING,
        Watches.METRIC,
        500,
        5 * _MINUTE,
        "The metric entobot_limited_total says which limit. Shut out whoever floods; for clients of yours raise [limits].",
        _MONITORING,
        unit="refusals",
    ),
    RuleId.LOOP_LATE: Rule(
        "The gateway is held up",
        "How often the event loop of a node was late by a quarter of a second or more.",
        Severity.WARNING,
        Watches.METRIC,
        20,
        5 * _MINUTE,
        "The log says where it was (loop.held_up). Look at the machine's load and disk.",
        _MONITORING,
        unit="times",
    ),
    RuleId.NOTIFICATIONS_FAIL: Rule(
        "Notifications do not leave",
        "Tries of a node to deliver notifications that a channel did not take.",
        Severity.WARNING,
        Watches.METRIC,
        10,
        15 * _MINUTE,
        "'entobot notifications channels' says which channel, and why. People with the app open are told all the same.",
        "docs/how-to/notifications.md",
        unit="failures",
    ),
    RuleId.PAIRING_REFUSED: _log(
        "Somebody guesses at pairing",
        "Claims of invites that were refused.",
        Severity.WARNING,
        10,
        10 * _MINUTE,
        "Look in the audit log for invite.claim_refused. Cancel invites that are open and not needed.",
        "docs/how-to/audit.md",
    ),
    RuleId.PERSON_RAISED: _news(
        "Somebody became an owner or an admin",
        "People who were added as owner or admin, or given that role.",
        Severity.WARNING,
        "If nobody of you did this: 'entobot users disable LOGIN', then look in the audit log who did it.",
        "docs/how-to/people-and-roles.md",
    ),
    RuleId.SIGN_INS_REFUSED: _log(
        "Many sign-ins are refused",
        "Passwords, and codes after them, that were refused.",
        Severity.WARNING,
        10,
        15 * _MINUTE,
        "Look in the audit log for sign_in.refused. Passkeys and links cannot be guessed; with signin.passwords = false "
        "nothing can be.",
        "docs/how-to/people-and-roles.md",
    ),
    RuleId.SMS_FAIL: _log(
        "SMS fail",
        "SMS that were refused or did not arrive, and those of which nobody knows.",
        Severity.WARNING,
        3,
        15 * _MINUTE,
        "'entobot pair list' has the reason beside each. Look at the provider's account: its balance, token and sender.",
        "docs/how-to/invite-by-sms.md",
    ),
    RuleId.STORE_DOWN: Rule(
        "The store cannot commit",
        "Whether the database takes what it is given.",
        Severity.CRITICAL,
        Watches.LEVEL,
        0,
        timedelta(seconds=30),
        "Run 'entobot db check'. Usually the disk is full, or the database server is away.",
        "docs/how-to/postgresql.md",
        is_low=True,
    ),
    RuleId.STORE_QUEUE: Rule(
        "The store is behind",
        "Units of work on a node that wait for the store.",
        Severity.WARNING,
        Watches.LEVEL,
        1000,
        2 * _MINUTE,
        "Look at the disk, or at the database server and what else uses it.",
        _MONITORING,
        unit="units",
    ),
    RuleId.TOKEN_REUSED: _news(
        "A refresh token was used twice",
        "Devices whose credentials were ended because an old token of theirs was shown.",
        Severity.CRITICAL,
        "Somebody may hold a copy of a device's credentials, or the device was restored from a backup. Ask its person, and "
        "pair it again.",
        "docs/security.md",
    ),
}
