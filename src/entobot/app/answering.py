"""Who answers, built in one place: the runner, its tools, the approvals they ask for, and the worker that drives runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from entobot.agents.bot import Bot
from entobot.agents.choice import NOBODY, Choice, choose
from entobot.agents.events import RunEvents
from entobot.agents.runner import Runner
from entobot.agents.runner_echo import EchoRunner
from entobot.agents.runner_llm import build_llm
from entobot.agents.runner_loading import LoadingRunner
from entobot.agents.runner_nobody import NobodyRunner
from entobot.agents.service import Agents, Limits
from entobot.agents.tools import Toolbox, built_in_tools
from entobot.agents.worker import Pace, Worker
from entobot.agents.workspace import Workspace
from entobot.app.cluster import who_lives
from entobot.app.ground import Ground
from entobot.approvals.action import Args
from entobot.approvals.service import Approvals
from entobot.audit.service import Audit
from entobot.config import AgentSettings
from entobot.conversations.service import Conversations
from entobot.devices.service import Devices
from entobot.settings.service import StoredSettings
from entobot.stream.service import Stream


@dataclass(frozen=True, slots=True)
class Features:
    """What answering stands on."""

    stream: Stream
    audit: Audit
    devices: Devices
    conversations: Conversations
    settings: StoredSettings


@dataclass(frozen=True, slots=True)
class Answering:
    approvals: Approvals
    bot: Bot
    agents: Agents
    worker: Worker


def build_answering(ground: Ground, features: Features, environment: Mapping[str, str]) -> Answering:
    settings = ground.settings.agent
    tools = built_in_tools(ground.clock, Workspace(settings.workspace or ground.home.workspace))
    approvals = _approvals(ground, features, tools)
    bot = Bot(features.settings, lambda wanted: _runner(wanted, environment))
    features.conversations.is_answered = lambda: bot.choice.runner_kind != NOBODY
    agents = _agents(ground, features, approvals, tools)
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
        runner=bot.runner,
        pace=Pace(turn_timeout=settings.run_timeout),
        meters=ground.meters,
        tracer=ground.tracer,
    )
    features.conversations.begin, approvals.go_on = worker.begin, worker.go_on
    return Answering(approvals, bot, agents, worker)


def _approvals(ground: Ground, features: Features, tools: Toolbox) -> Approvals:
    return Approvals(
        ids=ground.ids,
        stream=features.stream,
        bus=ground.bus,
        audit=features.audit,
        devices=features.devices,
        audience=ground.origin,
        check_edit=_checker(tools),
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


def _runner(settings: AgentSettings, environment: Mapping[str, str]) -> tuple[Choice, Runner]:
    choice = choose(settings, environment)
    endpoint = choice.endpoint
    if endpoint is None:
        return choice, NobodyRunner() if choice.runner_kind == NOBODY else EchoRunner()
    return choice, LoadingRunner(lambda: build_llm(endpoint, settings), choice.model)


def _checker(tools: Toolbox) -> Callable[[str, Args], None]:
    def check(tool: str, args: Args) -> None:
        tools.check(tool, args)

    return check
