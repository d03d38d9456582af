"""Write deploy/grafana/*.json. A panel is one line of what is asked and one of what to do about the answer."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "deploy" / "grafana"
SCHEMA_VERSION = 39
"""Of Grafana 11; later ones migrate it when it is loaded."""
WIDTH = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
AT = 'job="$job",instance=~"$instance"'
"""In every query: what the variables chose."""
RATE = "[$__rate_interval]"


@dataclass(frozen=True)
class Panel:
    """`unit` is one of Grafana's. `todo` says what to do when it looks wrong. `queries` are (PromQL, legend)."""

    title: str
    unit: str
    todo: str
    queries: tuple[tuple[str, str], ...]
    is_stat: bool = False
    red_from: float | None = None
    red_below: float | None = None


def of(metric: str, **labels: str) -> str:
    """A selector. A label's value may begin with its operator: `!=`, `=~`, `!~`."""
    matchers = [AT]
    for name, value in labels.items():
        operator = value[:2] if value[:2] in ("!=", "=~", "!~") else "="
        matchers.append(f'{name}{operator}"{value.removeprefix(operator)}"')
    return f"{metric}{{{','.join(matchers)}}}"


def rate(metric: str, by: str, **labels: str) -> str:
    return f"sum by ({by}) (rate({of(metric, **labels)}{RATE}))"


def quantile(q: float, histogram: str, by: str = "", **labels: str) -> str:
    groups = ", ".join(filter(None, ("le", by)))
    return f"histogram_quantile({q}, sum by ({groups}) (rate({of(histogram + '_bucket', **labels)}{RATE})))"


def quantiles(histogram: str, **labels: str) -> tuple[tuple[str, str], ...]:
    return tuple((quantile(q, histogram, **labels), f"p{round(q * 100)}") for q in (0.5, 0.9, 0.99))


GATEWAY = (
    Panel("Up", "none", "Below the number of nodes: restart the one that is missing, its log says why it ended.", ((f"sum(up{{{AT}}})", "nodes"),), is_stat=True, red_below=1),
    Panel("Parts that are not ready", "none", "Run `entobot doctor` on the node; the table of docs/how-to/monitoring.md says what each part means.", ((f"sum by (check) ({of('entobot_ready')} == bool 0)", "{{check}}"),), is_stat=True, red_from=1),
    Panel("Certificate ends", "dateTimeFromNow", "Less than 14 days: renew the given files; the local authority's renews itself at 30.", ((f"min({of('entobot_certificate_end_timestamp_seconds')}) * 1000", "first"),), is_stat=True),
    Panel("Connected", "none", "Falls at once: look at the proxy, then at closes by code.", ((f"sum({of('entobot_connections')})", "devices"),), is_stat=True),
    Panel("Running since", "dateTimeFromNow", "Younger than you remember: read the log before the start.", ((f"{of('process_start_time_seconds')} * 1000", "{{instance}}"),), is_stat=True),
    Panel("Version", "none", "More than one for long: an upgrade stopped half way.", ((f"count by (version) ({of('entobot_build_info')})", "{{version}}"),), is_stat=True),
    Panel("Newest backup", "s", "Older than two days: `entobot doctor` says why; docs/how-to/back-up.md what to do.", ((f"min({of('entobot_backup_age_seconds')})", "age"),), is_stat=True, red_from=172800),
    Panel("Backups that failed in a day", "none", "The log says `backup.failed` and why; it is tried again after 15 minutes.", ((f"sum(increase({of('entobot_backups_total', outcome='failed')}[1d]))", "failed"),), is_stat=True, red_from=1),
    Panel("Connections by transport", "none", "`sse` instead of `websocket`: a proxy does not pass WebSocket upgrades.", ((f"sum by (transport) ({of('entobot_connections')})", "{{transport}}"), (f"sum({of('entobot_listener_connections')})", "sockets"))),
    Panel("Requests by status", "reqps", "5xx: the log has the request's id. 429: see the security dashboard.", ((rate("entobot_http_requests_total", "status"), "{{status}}"),)),
    Panel("Time to answer a request", "s", "p99 above a second: look at the event loop and at commits.", quantiles("entobot_http_request_seconds")),
    Panel("Commands by outcome", "ops", "An outcome that grows is an error code: docs/reference/errors.md says what to do.", ((rate("entobot_commands_total", "command, outcome"), "{{command}} {{outcome}}"),)),
    Panel("Time of a command", "s", "Of a write it holds a commit: where it grows with commits, the disk is slow.", quantiles("entobot_command_seconds")),
    Panel("One commit", "s", "p99 above 0.25 s: find what else writes to this disk or to PostgreSQL.", quantiles("entobot_database_commit_seconds")),
    Panel("Units that wait for the store", "none", "Above some hundred for minutes: the store does not keep up with the load.", ((f"sum by (instance, operation) ({of('entobot_database_queue')})", "{{instance}} {{operation}}"),)),
    Panel("Units in a commit", "none", "Many in one is how the store keeps up; it is no fault.", ((f"sum by (instance) (rate({of('entobot_database_commit_units_sum')}{RATE})) / sum by (instance) (rate({of('entobot_database_commit_units_count')}{RATE}))", "{{instance}}"),)),
    Panel("Store refused or asked again", "ops", "Any refusal: free space, PostgreSQL's log. Many conflicts: fewer nodes write faster.", ((rate("entobot_database_errors_total", "instance, operation"), "{{instance}} {{operation}} refused"), (rate("entobot_database_retries_total", "instance, reason"), "{{instance}} {{reason}}"))),
    Panel("Wait for PostgreSQL", "s", "Grows while commits stay quick: all connections are busy, the panel beside says so.", ((quantile(0.99, "entobot_database_wait_seconds", "operation"), "p99 {{operation}}"),)),
    Panel("Connections to PostgreSQL", "none", "Never idle: the database is the bottleneck; look at its slowest statements.", ((f"sum by (operation, state) ({of('entobot_database_connections')})", "{{operation}} {{state}}"),)),
    Panel("Event loop late", "s", "p99 above 0.1 s: the processor is busy or shared with too much else.", ((quantile(0.99, "entobot_event_loop_late_seconds", "instance"), "{{instance}}"),)),
    Panel("Processor", "percentunit", "One node uses one core: near 1, add a node.", ((f"rate({of('process_cpu_seconds_total')}{RATE})", "{{instance}}"),)),
    Panel("Memory", "bytes", "Grows without end: restart in a quiet hour and report it with this picture.", ((of("process_resident_memory_bytes"), "{{instance}}"),)),
    Panel("Open files", "percentunit", "Above 0.8: raise LimitNOFILE of the service.", ((f"{of('process_open_fds')} / {of('process_max_fds')}", "{{instance}}"),)),
    Panel("Periodic work that failed", "ops", "The log has the reason under the name of the sweep.", ((rate("entobot_sweep_seconds_count", "instance, sweep", outcome="failed"), "{{instance}} {{sweep}}"),)),
)  # fmt: skip

DELIVERY = (
    Panel("Events that wait to be sent", "none", "Above 1000: few connections are behind, let them; many, look at the store.", ((f"sum({of('entobot_delivery_waiting')})", "events"),), is_stat=True, red_from=1000),
    Panel("Sent, not acknowledged", "none", "Stays high: devices are on bad lines, or their app does not answer.", ((f"sum({of('entobot_delivery_unacknowledged')})", "events"),), is_stat=True),
    Panel("Connections that are behind", "none", "Most of all: the store is slow. Single ones: bad lines.", ((f"sum({of('entobot_connections_behind')})", "connections"),), is_stat=True),
    Panel("Nodes that cannot ring", "none", "Bring the bus back; events are late by a second and none is lost.", ((f"sum({of('entobot_bus_up')} == bool 0)", "nodes"),), is_stat=True, red_from=1),
    Panel("Retention behind", "none", "Above 20000 for long: look for failed sweeps and slow commits.", ((f"max({of('entobot_stream_backlog')})", "events"),), is_stat=True, red_from=20000),
    Panel("Oldest event", "s", "Above `stream.keep_for` (30 days unless set): retention does not run.", ((f"max({of('entobot_stream_oldest_seconds')})", "age"),), is_stat=True),
    Panel("Roll-outs that are paused", "none", "Too many boards failed, or somebody paused it: `entobot updates rollouts` says which and why.", ((f"max({of('entobot_rollouts', state='paused')})", "paused"),), is_stat=True, red_from=1),
    Panel("Commit to acknowledgement, live", "s", "p99 above 5 s: event loop and commits first, then a proxy that buffers.", quantiles("entobot_delivery_seconds", path="live")),
    Panel("Commit to acknowledgement, replayed", "s", "The time a device was away counts: this is how long people are away.", quantiles("entobot_delivery_seconds", path="replay")),
    Panel("Events sent and acknowledged", "ops", "The lines part for long: devices receive and do not acknowledge.", ((f"sum(rate({of('entobot_events_sent_total')}{RATE}))", "sent"), (f"sum(rate({of('entobot_delivery_seconds_count')}{RATE}))", "acknowledged"))),
    Panel("Waiting by transport", "none", "`sse` alone: a proxy buffers the answers.", ((f"sum by (transport) ({of('entobot_delivery_waiting')})", "{{transport}}"),)),
    Panel("Handshakes by outcome", "ops", "`lost`: a proxy without upgrades. `bad_credentials`: see the security dashboard.", ((rate("entobot_handshakes_total", "transport, outcome"), "{{transport}} {{outcome}}"),)),
    Panel("Handshake", "s", "p99 above a second: the store is slow to read, or the processor is busy.", quantiles("entobot_handshake_seconds")),
    Panel("Closes by code", "ops", "docs/reference/close-codes.md says what each means; 4002 are readers that were too slow.", ((rate("entobot_connections_closed_total", "code"), "{{code}}"),)),
    Panel("Doorbells between nodes", "ops", "`dropped` or `missed`: the limits and the log of the bus.", ((f"sum(rate({of('entobot_bus_sent_total')}{RATE}))", "sent"), (f"sum(rate({of('entobot_bus_missed_total')}{RATE}))", "missed"), (f"sum(rate({of('entobot_bus_dropped_total')}{RATE}))", "dropped"), (f"sum(rate({of('entobot_bus_made_good_total')}{RATE}))", "found without"))),
    Panel("Oldest doorbell that is not sent", "s", "Grows: the bus is away, see its health.", ((f"max by (instance) ({of('entobot_bus_waiting_seconds')})", "{{instance}}"),)),
    Panel("Bus reached again", "ops", "Again and again: the network between node and bus breaks.", ((rate("entobot_bus_reconnects_total", "instance"), "{{instance}}"),)),
    Panel("Events taken by retention", "ops", "None while the store grows: retention does not run.", ((f"sum(rate({of('entobot_stream_trimmed_total')}{RATE}))", "events"),)),
    Panel("Notifications by kind", "ops", "One kind that floods: its sender is in `entobot notifications list --all`.", ((rate("entobot_notifications_total", "kind"), "{{kind}}"),)),
    Panel("Ways that were tried to notify", "ops", "`failed`, `retried`: `entobot notifications channels` says why. `unknown`: the process was killed while sending.", ((rate("entobot_notification_attempts_total", "channel, outcome"), "{{channel}} {{outcome}}"),)),
    Panel("From a notification to its being taken", "s", "`live`: a device showed it. Others: the service took it; grows: it is slow, or tried again.", ((quantile(0.5, "entobot_notification_seconds", "channel"), "p50 {{channel}}"), (quantile(0.9, "entobot_notification_seconds", "channel"), "p90 {{channel}}"))),
    Panel("Files", "Bps", "In: sent by devices. Out: asked for by them.", ((rate("entobot_file_bytes_total", "direction"), "{{direction}}"),)),
    Panel("Files that were not taken, by reason", "ops", "`storage_full`: `files.total_bytes` is reached, or the disk is full.", ((rate("entobot_file_refusals_total", "reason"), "{{reason}}"),)),
    Panel("Readings of things", "ops", "None while boards are connected: what they send does not fit, see the next panel.", ((f"sum(rate({of('entobot_thing_readings_total')}{RATE}))", "readings"),)),
    Panel("What things said that did not fit, by reason", "ops", "`entobot things show` says what, and of which.", ((rate("entobot_thing_refused_total", "reason"), "{{reason}}"),)),
    Panel("Commands to things by how they ended", "ops", "`expired`: the thing was away, or does not answer.", ((rate("entobot_thing_commands_total", "state"), "{{state}}"),)),
    Panel("Messages over MQTT that may not be read", "ops", "`arrived`: wildcards reach more than their device may read, no fault. `waited`: a policy or a key's topics were narrowed.", ((rate("entobot_mqtt_withheld_total", "reason"), "{{reason}}"),)),
    Panel("Boards in roll-outs", "none", "Stuck in `offered`: they are away, or take no updates. `failed`: `entobot updates status` says why.", ((f"max by (state) ({of('entobot_rollout_devices')})", "{{state}}"),)),
    Panel("Steps of signed updates", "ops", "`rolled_back`: the release does not run there; pause, look at one board.", ((rate("entobot_update_steps_total", "state"), "{{state}}"),)),
    Panel("Bridges to other brokers", "none", "0: `entobot mqtt bridges` says why, and what to do.", ((f"max by (bridge) ({of('entobot_bridge_up')})", "{{bridge}}"),)),
    Panel("Messages over bridges", "ops", "`in` falls to nothing while the bridge is up: look at who publishes there.", ((rate("entobot_bridge_messages_total", "bridge, direction"), "{{bridge}} {{direction}}"),)),
    Panel("Messages of bridges that changed nothing, or are lost", "ops", "`device`: no such board here. Dropped: the other broker was away too long.", ((rate("entobot_bridge_refused_total", "bridge, reason"), "{{bridge}} {{reason}}"), (rate("entobot_bridge_dropped_total", "bridge"), "{{bridge}} dropped"))),
    Panel("Boards at the edge", "none", "Falls at once: look at its servers, and at `entobot doctor`.", ((f"max({of('entobot_edge_boards')})", "boards"), (f"sum({of('entobot_edge_up')})", "nodes connected"))),
    Panel("Asked and cut at the edge", "ops", "`refused` stays high: a board has a wrong key. `failed`: the store did not answer.", ((rate("entobot_edge_asked_total", "outcome"), "{{outcome}}"), (f"sum(rate({of('entobot_edge_cut_total')}{RATE}))", "cut"), (f"sum(rate({of('entobot_edge_told_again_total')}{RATE}))", "commands told again"))),
    Panel("Messages taken from the edge", "ops", "`refused`: too large, or forbidden by a policy.", ((rate("entobot_edge_messages_total", "outcome"), "{{outcome}}"),)),
    Panel("Messages that wait at the edge", "none", "Grows: nodes take less than boards say. It is kept for a week.", ((f"max({of('entobot_edge_backlog')})", "messages"),)),
    Panel("Automations that fired", "ops", "`looped`: it set itself off, and is off. `missed`: nothing ran at its time.", ((rate("entobot_automation_firings_total", "state"), "{{state}}"),)),
    Panel("What automations did, by how it ended", "ops", "`refused` or `failed`: `entobot automations history` says why.", ((rate("entobot_automation_actions_total", "state"), "{{state}}"),)),
    Panel("Transcriptions", "s", "Of recordings. Not `ok`: the service or program of `[voice]`, by what went wrong.", ((quantile(0.5, "entobot_transcription_seconds", "outcome"), "p50 {{outcome}}"), (quantile(0.9, "entobot_transcription_seconds", "outcome"), "p90 {{outcome}}"))),
    Panel("SMS by outcome", "ops", "`failed`: `entobot pair list` says why. `unknown`: the process was killed while sending.", ((rate("entobot_sms_messages_total", "provider, outcome"), "{{provider}} {{outcome}}"),)),
    Panel("Receipts of SMS providers", "ops", "`refused`: somebody guesses, or `gateway.public_url` is not the address that the provider signs.", ((rate("entobot_sms_receipts_total", "outcome"), "{{outcome}}"),)),
    Panel("SMS that were not sent, by reason", "ops", "A limit again and again: `[sms]` in docs/reference/settings.md.", ((rate("entobot_sms_refused_total", "reason"), "{{reason}}"),)),
)  # fmt: skip

AGENTS = (
    Panel("Conversations that wait", "none", "Above 20 for long: add a node, or a faster model.", ((f"max({of('entobot_conversations_awaiting')})", "conversations"),), is_stat=True, red_from=20),
    Panel("Runs now", "none", "Equal to what the nodes may drive: the next ones wait.", ((f"sum({of('entobot_runs_active')})", "runs"),), is_stat=True),
    Panel("Approvals that wait for a person", "none", "They wait until `agent.approval_timeout`; tell the people.", ((f"max({of('entobot_approvals_pending')})", "approvals"),), is_stat=True),
    Panel("Decisions that nothing takes up", "none", "See `entobot approvals list --state all`: another call of the run may take long.", ((f"max({of('entobot_approvals_unconsumed')})", "decisions"),), is_stat=True),
    Panel("Runs that failed in an hour", "none", "The panel of outcomes names the code; docs/how-to/troubleshoot.md says what to do.", ((f"sum(increase({of('entobot_run_seconds_count', outcome='!~ok|cancelled')}[1h]))", "runs"),), is_stat=True, red_from=1),
    Panel("Runs by outcome", "ops", "provider_unauthorized: a new key. provider_out_of_credit: money. internal: the log.", ((rate("entobot_run_seconds_count", "outcome"), "{{outcome}}"),)),
    Panel("From message to answer", "s", "Waiting for people counts: compare with the time of a model turn.", quantiles("entobot_run_seconds", outcome="ok")),
    Panel("One call of the model", "s", "Slow: the vendor's status page, or another model.", quantiles("entobot_model_turn_seconds", outcome="ok")),
    Panel("Model calls by outcome", "ops", "An error code that stays: it is the same as of the run that it ended.", ((rate("entobot_model_turn_seconds_count", "outcome"), "{{outcome}}"),)),
    Panel("Tool calls by outcome", "ops", "`unknown`: a person has to look whether it happened. `failed`: the conversation says why.", ((rate("entobot_tool_call_seconds_count", "outcome"), "{{outcome}}"),)),
    Panel("One tool call", "s", "Grows: the workspace's disk, or what the tool asks.", quantiles("entobot_tool_call_seconds")),
    Panel("Wait for a person", "s", "Long: fewer people than questions, or nobody's app is open.", ((quantile(0.5, "entobot_approval_wait_seconds", "outcome"), "p50 {{outcome}}"), (quantile(0.9, "entobot_approval_wait_seconds", "outcome"), "p90 {{outcome}}"))),
    Panel("Calls let through by rules", "ops", "People made these rules: `entobot approvals rules list --all`.", ((f"sum(rate({of('entobot_approval_rule_uses_total')}{RATE}))", "calls"),)),
    Panel("Runs that wait, and for what", "none", "`node`: add a node. `person`: one person asks much at once.", ((f"sum by (waits_for) ({of('entobot_runs_queued')})", "{{waits_for}}"),)),
)  # fmt: skip

SECURITY = (
    Panel("Refused credentials in an hour", "none", "Many: the log's `refused` lines have addresses; deploy/fail2ban bans them.", ((f"sum(increase({of('entobot_auth_failures_total')}[1h]))", "refused"),), is_stat=True),
    Panel("Devices cut off for a replayed token", "none", "Any: ask the device's owner whether a backup was restored; else it was copied.", ((f"sum(increase({of('entobot_audit_entries_total', event='token.family_revoked')}[1d]))", "in a day"),), is_stat=True, red_from=1),
    Panel("Refused pairings in an hour", "none", "Some are typing errors. Many: make no invites, set `gateway.allowed_networks`.", ((f"sum(increase({of('entobot_audit_entries_total', event='=~invite[.](claim_refused|burned|denied)')}[1h]))", "refused"),), is_stat=True, red_from=10),
    Panel("Devices paired in a day", "none", "More than you paired: `entobot devices list`, revoke what you do not know.", ((f"sum(increase({of('entobot_audit_entries_total', event='device.paired')}[1d]))", "paired"),), is_stat=True),
    Panel("Waiting before authentication", "none", "Stays near `limits.unauthenticated`: somebody opens connections and says nothing.", ((f"sum({of('entobot_handshakes_waiting')})", "WebSockets"),), is_stat=True),
    Panel("Refused credentials", "ops", "One reason of one transport that grows: a client with a fault, or somebody guesses.", ((rate("entobot_auth_failures_total", "transport, reason"), "{{transport}} {{reason}}"),)),
    Panel("Over a limit", "ops", "docs/reference/limits.md says what is counted and which setting raises it.", ((rate("entobot_limited_total", "limit"), "{{limit}}"),)),
    Panel("Refused at the door", "ops", "address_not_allowed: look at `gateway.allowed_networks`. proxy_header: at `gateway.trusted_proxies` and the proxy.", ((rate("entobot_refusals_total", "reason"), "{{reason}}"),)),
    Panel("Audit log", "ops", "Every kind of entry: docs/reference/audit-events.md. A gap while people work: look at the store.", ((rate("entobot_audit_entries_total", "event"), "{{event}}"),)),
    Panel("Audit entries that tell of a refusal", "ops", "`entobot audit list` has who and what.", ((rate("entobot_audit_entries_total", "event, outcome", outcome="!=success"), "{{event}} {{outcome}}"),)),
    Panel("Audit entries that wait for a receiver", "none", "Grows: the receiver is away, `entobot doctor` says why. Nothing is lost: docs/how-to/audit.md.", ((f"max by (sink) ({of('entobot_audit_sink_lag')})", "{{sink}}"),)),
    Panel("Audit batches that were not taken", "ops", "The log says `audit.sink_failed` and why; it is tried again within a minute.", ((rate("entobot_audit_sink_failures_total", "sink"), "{{sink}}"),)),
    Panel("Pairing", "ops", "Created without confirmed: people do not get through; claim_refused: see above.", ((rate("entobot_audit_entries_total", "event", event="=~invite[.].*"), "{{event}}"),)),
    Panel("Devices and keys", "ops", "revoked, suspended, api_key.created that you did not do: `entobot audit list`.", ((rate("entobot_audit_entries_total", "event", event="=~(device|api_key|key|token|auth)[.].*"), "{{event}}"),)),
    Panel("4xx by status", "reqps", "401 and 403 that grow: as refused credentials. 429: over a limit.", ((rate("entobot_http_requests_total", "status", status="=~4.."), "{{status}}"),)),
)  # fmt: skip

DASHBOARDS = {"gateway": GATEWAY, "delivery": DELIVERY, "agents": AGENTS, "security": SECURITY}


def _thresholds(panel: Panel) -> dict[str, Any]:
    first = "red" if panel.red_below is not None else "green"
    steps: list[dict[str, Any]] = [{"color": first, "value": None}]
    if panel.red_below is not None:
        steps.append({"color": "green", "value": panel.red_below})
    if panel.red_from is not None:
        steps.append({"color": "red", "value": panel.red_from})
    return {"mode": "absolute", "steps": steps}


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    if panel.is_stat:
        options: dict[str, Any] = {
            "colorMode": "value",
            "graphMode": "none",
            "reduceOptions": {"calcs": ["lastNotNull"]},
        }
    else:
        options = {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    return {
        "id": number,
        "type": "stat" if panel.is_stat else "timeseries",
        "title": panel.title,
        "description": panel.todo,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "thresholds": _thresholds(panel), "color": {"mode": "thresholds" if panel.is_stat else "palette-classic"}},
            "overrides": [],
        },
        "options": options,
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": expr, "legendFormat": legend, "instant": panel.is_stat, "range": not panel.is_stat}
            for place, (expr, legend) in enumerate(panel.queries)
        ],
    }  # fmt: skip


def _places(panels: tuple[Panel, ...]) -> list[dict[str, int]]:
    """Stats six in a row, curves three in a row, in the order given."""
    places: list[dict[str, int]] = []
    x = y = height = 0
    for panel in panels:
        w, h = (4, 4) if panel.is_stat else (8, 8)
        if x + w > WIDTH or (height and h != height):
            x, y = 0, y + height
        places.append({"x": x, "y": y, "w": w, "h": h})
        x, height = x + w, h
    return places


def _variable(name: str, query: str, *, is_multi: bool) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": is_multi,
        "includeAll": is_multi,
        "allValue": ".*" if is_multi else None,
        "current": {"text": "All", "value": "$__all"} if is_multi else {"text": "entobot", "value": "entobot"},
    }


def dashboard(name: str, panels: tuple[Panel, ...]) -> dict[str, Any]:
    placed = zip(panels, _places(panels), strict=True)
    return {
        "uid": f"entobot-{name}",
        "title": f"Entobot: {name}",
        "tags": ["entobot"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "links": [{"type": "dashboards", "title": "Entobot", "tags": ["entobot"], "asDropdown": True, "includeVars": True}],
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "source"},
                _variable("job", "label_values(entobot_build_info, job)", is_multi=False),
                _variable("instance", 'label_values(entobot_build_info{job="$job"}, instance)', is_multi=True),
            ]
        },
        "panels": [_panel(number, panel, place) for number, (panel, place) in enumerate(placed, 1)],
    }  # fmt: skip


def written() -> dict[Path, str]:
    """What each file holds."""
    return {
        FOLDER / f"{name}.json": json.dumps(dashboard(name, panels), indent=2, ensure_ascii=False) + "\n"
        for name, panels in DASHBOARDS.items()
    }


def main() -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, text in written().items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(f"written: {path.relative_to(FOLDER.parents[1])}")  # noqa: T201  a command's answer
    return 0


if __name__ == "__main__":
    sys.exit(main())
