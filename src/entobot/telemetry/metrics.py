"""Every metric, sorted by its name: the one vocabulary. Shown at `GET /metrics`, described in docs/reference/metrics.md.

To add one: write it here, bind it where it happens (`meters.counter(Metric.X, …)`, once, at construction), run
`make docs`. Names follow Prometheus: `entobot_`, base units, `_total` for counters. A label's values are words of our
own (enums, tables of handlers), never ids, addresses, paths or anything that came from outside.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum

FAST_SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""What a machine does: a command, a commit."""
SLOW_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""What a model or a tool does."""
DELIVERY_SECONDS = (*FAST_SECONDS[3:], 30.0, 60.0, 300.0, 3600.0, 86400.0)
"""What a network does, and a phone that was away."""
PERSON_SECONDS = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Spec:
    """`name` as it is exposed; of a histogram without `_bucket`, `_sum`, `_count`. `bounds` are its upper bounds."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


def _counter(name: str, meaning: str, *labels: str) -> Spec:
    return Spec(name, Kind.COUNTER, meaning, labels)


def _gauge(name: str, meaning: str, *labels: str) -> Spec:
    return Spec(name, Kind.GAUGE, meaning, labels)


def _histogram(name: str, bounds: Iterable[float], meaning: str, *labels: str) -> Spec:
    return Spec(name, Kind.HISTOGRAM, meaning, labels, tuple(bounds))


class Metric(Enum):
    ALERT_MESSAGES = _counter(
        "entobot_alert_messages_total",
        "Messages about alerts: `sent`, `retried` after a failed attempt, `failed` for good.",
        "channel",
        "outcome",
    )
    ALERTS = _counter("entobot_alerts_total", "Alerts that fired, as this node saw it.", "rule")
    APPROVAL_RULE_USES = _counter(
        "entobot_approval_rule_uses_total", "Tool calls that a rule let through, without asking a person."
    )
    APPROVAL_WAIT_SECONDS = _histogram(
        "entobot_approval_wait_seconds",
        PERSON_SECONDS,
        "From the question to its end: `approved`, `denied`, `expired`, `cancelled`.",
        "outcome",
    )
    APPROVALS_PENDING = _gauge(
        "entobot_approvals_pending", "Questions that wait for a person. Of the whole store: the same on every node."
    )
    APPROVALS_UNCONSUMED = _gauge(
        "entobot_approvals_unconsumed",
        "Decisions that no run has taken up within ten seconds. Of the whole store: the same on every node.",
    )
    AUDIT_ENTRIES = _counter(
        "entobot_audit_entries_total",
        "Entries of the audit log: every pairing, refusal, suspend, revoke.",
        "event",
        "outcome",
    )
    AUDIT_SINK_FAILURES = _counter(
        "entobot_audit_sink_failures_total", "Batches of the audit log that a receiver did not take.", "sink"
    )
    AUDIT_SINK_LAG = _gauge(
        "entobot_audit_sink_lag", "Entries of the audit log that a receiver has not taken yet.", "sink"
    )
    AUTH_FAILURES = _counter(
        "entobot_auth_failures_total", "Credentials that were refused, and why.", "transport", "reason"
    )
    AUTOMATION_ACTIONS = _counter(
        "entobot_automation_actions_total", "What automations did: `done`, `refused`, or `failed`.", "state"
    )
    AUTOMATION_FIRINGS = _counter(
        "entobot_automation_firings_total",
        "Automations: `fired`, `missed` while nothing ran, `looped` and switched off, `refused` for want of a right.",
        "state",
    )
    BACKUP_AGE_SECONDS = _gauge(
        "entobot_backup_age_seconds",
        "Since the last good backup was made, by schedule or by hand. Not there before the first one.",
    )
    BACKUPS = _counter("entobot_backups_total", "Backups that the schedule made: `ok` or `failed`.", "outcome")
    BRIDGE_DROPPED = _counter(
        "entobot_bridge_dropped_total",
        "Messages for another broker that are lost: too many waited, it refused them, or they ran out.",
        "bridge",
    )
    BRIDGE_MESSAGES = _counter(
        "entobot_bridge_messages_total",
        "Messages of another broker that were taken (`in`), and those that it has acknowledged (`out`).",
        "bridge",
        "direction",
    )
    BRIDGE_REFUSED = _counter(
        "entobot_bridge_refused_total",
        "Messages of another broker that changed nothing: `device`, `large`, `name`, `old` (retained), `payload`, "
        "`topic`; `protocol`: it was sent away.",
        "bridge",
        "reason",
    )
    BRIDGE_UP = _gauge(
        "entobot_bridge_up",
        "Whether this node is connected to the other broker; 0 on nodes that do not hold it.",
        "bridge",
    )
    BUILD_INFO = _gauge("entobot_build_info", "Always 1; its labels say what runs.", "version", "python")
    BUS_BEHIND = _gauge(
        "entobot_bus_behind", "Events that the last look at the database found and no doorbell had told of."
    )
    BUS_DROPPED = _counter("entobot_bus_dropped_total", "Doorbells to other nodes that were given up.")
    BUS_MADE_GOOD = _counter(
        "entobot_bus_made_good_total",
        "Events that were found by looking at the database. A few are faster than their doorbell; many say it is lost.",
    )
    BUS_MISSED = _counter("entobot_bus_missed_total", "Doorbells of other nodes that never arrived here.")
    BUS_RECONNECTS = _counter(
        "entobot_bus_reconnects_total", "How often the bus was reached again after it had been lost."
    )
    BUS_SENT = _counter("entobot_bus_sent_total", "Doorbells that other nodes were sent.")
    BUS_UP = _gauge("entobot_bus_up", "1 while other nodes can be rung. 0 delays events and loses none.")
    BUS_WAITING = _gauge("entobot_bus_waiting", "Doorbells that are not sent yet.")
    BUS_WAITING_SECONDS = _gauge("entobot_bus_waiting_seconds", "Age of the oldest doorbell that is not sent yet.")
    CERTIFICATE_END = _gauge(
        "entobot_certificate_end_timestamp_seconds",
        "When the certificate that is served ends, in seconds since 1970. Not there without TLS.",
    )
    CERTIFICATE_RENEWALS = _counter(
        "entobot_certificate_renewals_total",
        "Tries for a new certificate: `ok` where it is served now, `failed` where the old one goes on.",
        "outcome",
    )
    COMMAND_SECONDS = _histogram(
        "entobot_command_seconds",
        FAST_SECONDS,
        "From a command's arrival to its result; of a write, after its commit is fsynced.",
        "command",
    )
    COMMANDS = _counter(
        "entobot_commands_total", "Commands, over every transport. `ok` or the error code.", "command", "outcome"
    )
    CONNECTIONS = _gauge("entobot_connections", "Connections that are authenticated now.", "transport")
    CONNECTIONS_BEHIND = _gauge(
        "entobot_connections_behind",
        "Connections that have not been sent all durable events of theirs yet.",
        "transport",
    )
    CONNECTIONS_CLOSED = _counter(
        "entobot_connections_closed_total", "Connections that ended, by close code.", "transport", "code"
    )
    CONNECTIONS_OPENED = _counter(
        "entobot_connections_opened_total", "Connections that were opened, authenticated or not.", "transport"
    )
    CONVERSATIONS_AWAITING = _gauge(
        "entobot_conversations_awaiting",
        "Conversations with a message that no run has taken up yet. Of the whole store: the same on every node.",
    )
    DATABASE_COMMIT_SECONDS = _histogram(
        "entobot_database_commit_seconds", FAST_SECONDS, "One COMMIT, its fsync included."
    )
    DATABASE_COMMIT_UNITS = _histogram(
        "entobot_database_commit_units", SIZES, "Units of work that one commit made durable together."
    )
    DATABASE_CONNECTIONS = _gauge(
        "entobot_database_connections",
        "Connections to PostgreSQL: at work for a transaction (`busy`), open without one (`idle`).",
        "operation",
        "state",
    )
    DATABASE_ERRORS = _counter(
        "entobot_database_errors_total", "Units that the store did not take: disk full, gone.", "operation"
    )
    DATABASE_QUEUE = _gauge("entobot_database_queue", "Units of work that wait for the store.", "operation")
    DATABASE_READS = _counter("entobot_database_reads_total", "Units that only read.")
    DATABASE_RETRIES = _counter(
        "entobot_database_retries_total",
        "Transactions that PostgreSQL had to be given once more: others were first (`conflict`), the connection broke (`lost`).",
        "operation",
        "reason",
    )
    DATABASE_UP = _gauge("entobot_database_up", "0 while it is known why the store cannot commit.")
    DATABASE_WAIT_SECONDS = _histogram(
        "entobot_database_wait_seconds", FAST_SECONDS, "How long a unit waited for its turn at PostgreSQL.", "operation"
    )
    DELIVERY_SECONDS = _histogram(
        "entobot_delivery_seconds",
        DELIVERY_SECONDS,
        "From an event's commit to its acknowledgement by the device; `replay`: the time it was away counts.",
        "path",
    )
    DELIVERY_UNACKNOWLEDGED = _gauge(
        "entobot_delivery_unacknowledged", "Durable events that were sent and are not acknowledged yet.", "transport"
    )
    DELIVERY_WAITING = _gauge(
        "entobot_delivery_waiting",
        "Durable events that connections are still to be sent: they wait for acknowledgements, the network or the store.",
        "transport",
    )
    EDGE_ASKED = _counter(
        "entobot_edge_asked_total",
        "Boards that the edge asked about: `admitted`, `refused`, or `failed` for want of the store.",
        "outcome",
    )
    EDGE_BACKLOG = _gauge(
        "entobot_edge_backlog", "Messages of boards that the edge keeps and no node has taken, as this one saw it last."
    )
    EDGE_BOARDS = _gauge("entobot_edge_boards", "Connections of boards at the edge: every node counts all of them.")
    EDGE_CUT = _counter("entobot_edge_cut_total", "Connections at the edge that were ended, their key being changed.")
    EDGE_MESSAGES = _counter(
        "entobot_edge_messages_total",
        "Messages of boards at the edge that were committed: `taken`, or `refused` and dropped.",
        "outcome",
    )
    EDGE_TOLD_AGAIN = _counter(
        "entobot_edge_told_again_total", "Commands that boards at the edge were told another time, or on their return."
    )
    EDGE_UP = _gauge("entobot_edge_up", "Whether this node is connected to the edge.")
    EVENT_LOOP_LATE_SECONDS = _histogram(
        "entobot_event_loop_late_seconds",
        FAST_SECONDS,
        "How late the event loop was, asked ten times a second: nothing may hold it for 5 ms.",
    )
    EVENTS_SENT = _counter(
        "entobot_events_sent_total",
        "Durable events that were sent; how many arrived is the count of `entobot_delivery_seconds`.",
    )
    FILE_BYTES = _counter(
        "entobot_file_bytes_total", "Bytes of files that arrived (`in`) and were asked for (`out`).", "direction"
    )
    FILE_REFUSALS = _counter("entobot_file_refusals_total", "Files that were not taken, by error code.", "reason")
    HANDSHAKE_SECONDS = _histogram(
        "entobot_handshake_seconds", FAST_SECONDS, "From an open connection to `ready`.", "transport"
    )
    HANDSHAKES = _counter(
        "entobot_handshakes_total",
        "Connections that became `ready` (`ok`) or ended before (the close code's name, or `lost`).",
        "transport",
        "outcome",
    )
    HANDSHAKES_WAITING = _gauge("entobot_handshakes_waiting", "WebSockets that are open and not authenticated yet.")
    HTTP_REQUEST_SECONDS = _histogram(
        "entobot_http_request_seconds", FAST_SECONDS, "From a request's head to the head of its answer."
    )
    HTTP_REQUESTS = _counter("entobot_http_requests_total", "HTTP requests that were answered.", "method", "status")
    LIMITED = _counter("entobot_limited_total", "Requests, connections and frames over a limit, by its name.", "limit")
    LISTENER_CONNECTIONS = _gauge("entobot_listener_connections", "Open sockets at the front door, of every kind.")
    MODEL_TURN_SECONDS = _histogram(
        "entobot_model_turn_seconds", SLOW_SECONDS, "One call of the model: `ok` or a run's error code.", "outcome"
    )
    MQTT_WITHHELD = _counter(
        "entobot_mqtt_withheld_total",
        "Messages that a session subscribed to and was not brought, since its device or key may not read them: when "
        "they `arrived`, when it subscribed (`retained`), or when they had `waited` and the rules had changed.",
        "reason",
    )
    NOTIFICATION_ATTEMPTS = _counter(
        "entobot_notification_attempts_total",
        "Ways that were tried to deliver notifications: `accepted` by the service, `retried` after a failed try, "
        "`failed` for good, `unknown` where the process ended in between.",
        "channel",
        "outcome",
    )
    NOTIFICATION_FAILURES = _counter(
        "entobot_notification_failures_total",
        "Tries to deliver a notification that a channel did not take; places that are gone do not count.",
        "channel",
    )
    NOTIFICATION_SECONDS = _histogram(
        "entobot_notification_seconds",
        PERSON_SECONDS,
        "From a notification to its being accepted by the service of a channel, or acknowledged by a device (`live`).",
        "channel",
    )
    NOTIFICATIONS = _counter(
        "entobot_notifications_total", "Notifications that were posted; words of senders count as `notice`.", "kind"
    )
    READY = _gauge("entobot_ready", "1 where the last answer of `/api/ready` found this part well.", "check")
    REFUSALS = _counter(
        "entobot_refusals_total", "Inputs that were refused at the door, most before they were read.", "reason"
    )
    ROLLOUT_DEVICES = _gauge(
        "entobot_rollout_devices",
        "Boards in roll-outs that are not over, by how far they are: `waiting`, `offered`, `downloading`, `installed`, "
        "`healthy`, `failed`, `rolled_back`. Of the whole store: the same on every node.",
        "state",
    )
    ROLLOUTS = _gauge(
        "entobot_rollouts",
        "Roll-outs of signed releases that are not over: `running` or `paused`. Of the whole store.",
        "state",
    )
    RUN_SECONDS = _histogram(
        "entobot_run_seconds",
        SLOW_SECONDS,
        "From a message's being taken up to its answer: `ok`, `cancelled` or the error code. Waiting for people counts.",
        "outcome",
    )
    RUNS_ACTIVE = _gauge("entobot_runs_active", "Runs that this node is driving; not those that wait for people.")
    RUNS_QUEUED = _gauge(
        "entobot_runs_queued",
        "Conversations and runs that wait on this node: for a place in it (`node`), for the same person's other runs (`person`).",
        "waits_for",
    )
    SMS_MESSAGES = _counter(
        "entobot_sms_messages_total",
        "What became of SMS: the states that they came to, as in `accepted`, `delivered`, `failed`, `unknown`.",
        "provider",
        "outcome",
    )
    SMS_RECEIPTS = _counter(
        "entobot_sms_receipts_total",
        "Receipts of providers: `taken`, `repeated` or replayed, `refused` (no right signature, or no such message).",
        "outcome",
    )
    SMS_REFUSED = _counter(
        "entobot_sms_refused_total",
        "SMS that were not posted: the limit that was reached, `number` (not one to write to), `stopped` (said STOP).",
        "reason",
    )
    STREAM_BACKLOG = _gauge(
        "entobot_stream_backlog",
        "Events beyond `stream.keep_events` that retention has not taken yet. Of the whole store: the same on every node.",
    )
    STREAM_OLDEST_SECONDS = _gauge(
        "entobot_stream_oldest_seconds",
        "Age of the oldest event that is kept; above `stream.keep_for` retention is late. Of the whole store.",
    )
    STREAM_TRIMMED = _counter("entobot_stream_trimmed_total", "Events that this node's retention has taken.")
    SWEEP_SECONDS = _histogram(
        "entobot_sweep_seconds", FAST_SECONDS, "Periodic work: `ok` or `failed`.", "sweep", "outcome"
    )
    THING_COMMANDS = _counter(
        "entobot_thing_commands_total", "Commands to things that are over, by how they ended.", "state"
    )
    THING_READINGS = _counter("entobot_thing_readings_total", "Readings of things that were taken.")
    THING_REFUSED = _counter(
        "entobot_thing_refused_total", "What things said that did not fit, and changed nothing, by reason.", "reason"
    )
    TOOL_CALL_SECONDS = _histogram(
        "entobot_tool_call_seconds", SLOW_SECONDS, "One tool call: the state in which it ended.", "outcome"
    )
    TRANSCRIPTION_SECONDS = _histogram(
        "entobot_transcription_seconds",
        SLOW_SECONDS,
        "From a recording to its text: `ok`, why there is none, or the code with which it was refused.",
        "outcome",
    )
    UPDATE_STEPS = _counter(
        "entobot_update_steps_total",
        "Steps of boards in roll-outs: `offered`, `downloading`, `installed`, `healthy`, `failed`, `rolled_back`.",
        "state",
    )


PROCESS_METRICS: dict[str, str] = {
    "process_cpu_seconds_total": "User and system time of this process.",
    "process_max_fds": "Files that this process may open.",
    "process_open_fds": "Files that this process has open.",
    "process_resident_memory_bytes": "Resident memory.",
    "process_start_time_seconds": "When this process started, in seconds since 1970.",
    "process_virtual_memory_bytes": "Virtual memory.",
}
"""The names that every Prometheus client uses for its process; Linux only."""

LABELS: dict[str, str] = {
    "bridge": "Name of a bridge in `[[mqtt.bridges]]`.",
    "channel": "Of alerts its name in `[[alerts.channels]]`; of notifications `live`, `push`, `email` and so on.",
    "check": "A part of readiness.",
    "code": "WebSocket close code; `other` for one that is not in the reference.",
    "command": "Name of a device command; `unknown` for one that is not in the table.",
    "direction": "`in` or `out`.",
    "event": "Name of an audit event.",
    "kind": "Said by the metric.",
    "limit": "Class of the [limits](limits.md).",
    "method": "HTTP method; `other` for an unusual one.",
    "operation": "`read` or `write`.",
    "outcome": "How it ended; said by each metric.",
    "path": "`live` or `replay`.",
    "provider": "The provider in `sms.provider`.",
    "python": "Version of Python.",
    "reason": "An error code, the name of a close code, or the limit that was hit; or said by the metric.",
    "rule": "Id of a rule of alerts.",
    "sink": "The receiver's name in `[[audit.sinks]]`.",
    "state": "Said by the metric.",
    "status": "HTTP status code.",
    "sweep": "Name of the periodic work.",
    "transport": "`websocket`, `simple` (the simple protocol), `sse` (`GET /api/v1/events`), `mqtt` or `http`.",
    "version": "Version of Entobot.",
    "waits_for": "Said by the metric.",
}
