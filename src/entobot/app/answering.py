"""Who answers, built in one place: the runner, its tools, the approvals they ask for, and the worker that drives runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from entobot.accounts.service import Accounts
from entobot.agents.ag_ui_follow import Parts
from entobot.agents.ag_ui_http import AgUi
from entobot.agents.attached import Attached
from entobot.agents.bot import Bot
from entobot.agents.choice import NOBODY, Choice, Endpoint
from entobot.agents.events import RunEvents
from entobot.agents.key_seal import KeySeal
from entobot.agents.providers import Providers, Rows
from entobot.agents.runner import RunErrorCode, RunFailed, Runner
from entobot.agents.runner_echo import EchoRunner
from entobot.agents.runner_llm import build_llm
from entobot.agents.runner_loading import LoadingRunner
from entobot.agents.runner_nobody import NobodyRunner
from entobot.agents.service import Agents, Limits
from entobot.agents.tools import Toolbox, built_in_tools
from entobot.agents.trying import WITHIN_S
from entobot.agents.worker import Pace, Worker
from entobot.agents.workspace import Workspace
from entobot.app.bridging import Doors, build_bridges, join, outside_tools
from entobot.app.cluster import who_lives
from entobot.app.ground import Ground
from entobot.app.things import ThingDesk
from entobot.approvals.service import Approvals
from entobot.audit.service import Audit
from entobot.config import AgentSettings
from entobot.conversations.service import Conversations
from entobot.devices.service import Devices
from entobot.files.service import Files
from entobot.home import Purpose
from entobot.notifications.service import Notifications
from entobot.settings.model_url import check_resolved
from entobot.settings.service import StoredSettings
from entobot.signin.passkeys import Passkeys
from entobot.stream.service import Stream

SEEING = frozenset({"anthropic", "gemini", "openai"})
"""Vendors all of whose present models take pictures."""


@dataclass(frozen=True, slots=True)
class Features:
    """What answering stands on."""

    stream: Stream
    audit: Audit
    accounts: Accounts
    devices: Devices
    conversations: Conversations
    settings: StoredSettings
    notifications: Notifications
    passkeys: Passkeys
    files: Files


@dataclass(frozen=True, slots=True)
class Answering:
    approvals: Approvals
    bot: Bot
    providers: Providers
    agents: Agents
    worker: Worker
    doors: Doors
    things: ThingDesk


def build_answering(ground: Ground, features: Features, environment: Mapping[str, str], rows: Rows) -> Answering:
    """`rows` are the stored providers."""
    settings = ground.settings.agent
    workspace = Workspace(settings.workspace or ground.home.workspace)
    things = ThingDesk(ground, features)
    tools = built_in_tools(ground.clock, workspace).plus(outside_tools(ground)).plus(things.tools())
    approvals = _approvals(ground, features, tools)
    providers = Providers(
        ground.database,
        ground.clock,
        ground.ids,
        features.audit,
        features.settings,
        KeySeal(ground.keys.key(Purpose.MODEL_KEYS), ground.entropy),
        environment,
        rows,
    )
    bot = Bot(features.settings, lambda wanted: _runner(wanted, providers))
    providers.on_changed, providers.build = bot.rebuild, _brief
    bridges = build_bridges(ground, bot, features.accounts, environment)
    join(features.conversations, bot, bridges)
    agents = _agents(ground, features, approvals, tools)
    agents.agent_of = lambda tx, user_id, conversation_id: bridges.choose(
        tx, user_id, features.conversations.agent_of(tx, conversation_id)
    )
    worker = Worker(
        database=ground.database,
        bus=ground.bus,
        clock=ground.clock,
        ids=ground.ids,
        stream=features.stream,
        conversations=features.conversations,
        approvals=approvals,
        agents=agents,
        tools=tools,
        runner=bridges,
        waiting=bridges,
        pace=Pace(turn_timeout=settings.run_timeout),
        meters=ground.meters,
        tracer=ground.tracer,
        attached=Attached(ground.database, features.files, lambda: _sees(settings, bot.choice)),
    )
    features.conversations.begin, approvals.go_on = worker.begin, worker.go_on
    follows = Parts(ground.database, ground.bus, ground.clock, features.stream, approvals, features.devices.guard)
    doors = Doors(ground, bridges, AgUi(follows, features.conversations, bridges))
    return Answering(approvals, bot, providers, agents, worker, doors, things)


def _approvals(ground: Ground, features: Features, tools: Toolbox) -> Approvals:
    return Approvals(
        ids=ground.ids,
        entropy=ground.entropy,
        stream=features.stream,
        bus=ground.bus,
        audit=features.audit,
        devices=features.devices,
        accounts=features.accounts,
        audience=ground.origin,
        judge_tool=tools.judge,
        settings=lambda: features.settings.in_force.approvals,
        notifications=features.notifications,
        passkeys=features.passkeys,
        meters=ground.meters,
    )


def _agents(ground: Ground, features: Features, approvals: Approvals, tools: Toolbox) -> Agents:
    settings = ground.settings.agent
    return Agents(
        ids=ground.ids,
        bus=ground.bus,
        audit=features.audit,
        events=RunEvents(features.stream, ground.ids, ground.meters),
        conversations=features.conversations,
        approvals=approvals,
        tools=tools,
        limits=Limits(max_iterations=settings.max_iterations, approval_timeout=settings.approval_timeout),
        node_id=ground.node_id,
        alive=who_lives(ground),
    )


def _runner(settings: AgentSettings, providers: Providers) -> tuple[Choice, Runner]:
    choice = providers.choose(settings)
    endpoint = choice.endpoint
    if endpoint is None:
        return choice, NobodyRunner() if choice.runner_kind == NOBODY else EchoRunner()
    return choice, LoadingRunner(lambda: build_llm(_checked(endpoint), settings), choice.model)


def _sees(settings: AgentSettings, choice: Choice) -> bool:
    if settings.pictures != "auto" or choice.endpoint is None:
        return settings.pictures == "on"
    return choice.endpoint.base_url is None and choice.endpoint.vendor in SEEING


def _brief(endpoint: Endpoint) -> Runner:
    """For trying a provider: a few words, once. Some models think before they speak, so not one token only."""
    settings = AgentSettings(max_tokens=64, run_timeout=timedelta(seconds=WITHIN_S))
    return build_llm(_checked(endpoint), settings, max_retries=0)


def _checked(endpoint: Endpoint) -> Endpoint:
    """Names are looked up when they are used: what was elsewhere yesterday may lead to a metadata address today."""
    try:
        check_resolved(endpoint.base_url or "")
    except ValueError as error:
        raise RunFailed(RunErrorCode.PROVIDER_REJECTED, f"agent.base_url {error}") from None
    return endpoint
