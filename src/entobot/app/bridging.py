"""Agents outside the gateway, built as the settings name them, and shown to people."""

import ssl
from collections.abc import Mapping
from pathlib import Path

from entobot.accounts.service import Accounts
from entobot.agents import ag_ui_http, http_list
from entobot.agents.acp_words import leave_tools
from entobot.agents.ag_ui_http import AgUi
from entobot.agents.ag_ui_words import ask_tool
from entobot.agents.bot import Bot
from entobot.agents.bridging import Bridged, Bridges, Outside, Standing
from entobot.agents.choice import NOBODY, Endpoint
from entobot.agents.plain_bridge import PlainBridge
from entobot.agents.remote import Remote
from entobot.agents.runner import RunErrorCode, RunFailed
from entobot.agents.runner_a2a import A2aRunner
from entobot.agents.runner_acp import AcpRunner
from entobot.agents.runner_ag_ui import AgUiRunner
from entobot.agents.runner_llm import build_llm
from entobot.agents.runner_loading import LoadingRunner
from entobot.agents.runner_webhook import MAX_REPLY_BYTES, WebhookRunner
from entobot.agents.tools import ToolSpec
from entobot.app.ground import Ground
from entobot.config_bridges import A2aBridge, AcpBridge, AgUiBridge, Bridge, OpenAiBridge, WebhookBridge
from entobot.conversations.service import Conversations
from entobot.core.networks import Networks
from entobot.core.permissions import Role
from entobot.outgoing.guarded_http import GuardedHttp
from entobot.settings.model_url import check_resolved
from entobot.storage.database import Transaction
from entobot.web.http import Check
from entobot.web.routes import Api

CHECK = "agents"


def outside_tools(ground: Ground) -> list[ToolSpec]:
    """What people may be asked for by agents outside."""
    found: list[ToolSpec] = []
    for bridge in ground.settings.agent.bridges:
        if bridge.kind == "acp":
            found += leave_tools(bridge.name)
        elif bridge.kind == "ag-ui":
            found.append(ask_tool(bridge.name))
    return found


def build_bridges(ground: Ground, bot: Bot, accounts: Accounts, environment: Mapping[str, str]) -> Bridges:
    settings = ground.settings.agent

    def role_of(tx: Transaction, user_id: str) -> Role:
        return accounts.get_user(tx, user_id).role

    outside = [Outside(one, _runner(one, ground, environment)) for one in settings.bridges]
    return Bridges(bot.runner, outside, settings.default, role_of)


def _runner(bridge: Bridge, ground: Ground, environment: Mapping[str, str]) -> Bridged:
    match bridge:
        case AcpBridge():
            return AcpRunner(bridge, ground.home.path / "agents" / bridge.name, environment, ground.clock)
        case OpenAiBridge():
            settings = ground.settings.agent.model_copy(update={"instructions": bridge.instructions})
            return PlainBridge(LoadingRunner(lambda: build_llm(_endpoint(bridge), settings), bridge.name))
        case WebhookBridge():
            http = _http(bridge)
            return PlainBridge(WebhookRunner(bridge.name, bridge.url, bridge.secret_file, http, ground.clock))
        case AgUiBridge():
            ag_ui = AgUiRunner(bridge.url, _remote(bridge), sends_all=bridge.sends == "conversation")
            return PlainBridge(ag_ui, ag_ui.allow)
        case A2aBridge():
            return PlainBridge(A2aRunner(bridge.url, _remote(bridge)))


def _remote(bridge: AgUiBridge | A2aBridge) -> Remote:
    return Remote(bridge.name, _http(bridge, bridge.ca_file), bridge.key_file, bridge.key_header)


def _http(bridge: AgUiBridge | A2aBridge | WebhookBridge, ca_file: Path | None = None) -> GuardedHttp:
    return GuardedHttp(
        Networks(bridge.private_networks),
        lambda: ssl.create_default_context(cafile=ca_file),
        setting=f"agent.bridges: {bridge.name}",
        within_s=bridge.within.total_seconds(),
        max_answer_bytes=MAX_REPLY_BYTES,
    )


def _endpoint(bridge: OpenAiBridge) -> Endpoint:
    """Blocks. Raises RunFailed."""
    try:
        check_resolved(bridge.base_url)
        key = bridge.key_file.read_text("utf-8").strip() if bridge.key_file is not None else ""
    except ValueError as error:
        text = f"agent.bridges, {bridge.name}: base_url {error}"
        raise RunFailed(RunErrorCode.PROVIDER_REJECTED, text) from None
    except OSError:
        text = f"{bridge.name} cannot be asked: its key_file cannot be read. Whoever runs this gateway must look."
        raise RunFailed(RunErrorCode.AGENT_NOT_READY, text) from None
    return Endpoint("openai", bridge.model, bridge.base_url, key or None)


def join(conversations: Conversations, bot: Bot, bridges: Bridges) -> None:
    """Let conversations be given to agents outside, and their messages be taken by them."""
    conversations.check_agent = bridges.check

    def is_answered(tx: Transaction, user_id: str, conversation_id: str) -> bool:
        if bot.choice.runner_kind != NOBODY:
            return True
        return bridges.choose(tx, user_id, conversations.agent_of(tx, conversation_id)) != ""

    conversations.is_answered = is_answered


class Doors:
    """What people and programs see of the agents of this gateway, and how they talk to them from outside."""

    def __init__(self, ground: Ground, bridges: Bridges, ag_ui: AgUi) -> None:
        self._database = ground.database
        self._bridges = bridges
        self._ag_ui = ag_ui

    def add_routes(self, api: Api) -> None:
        http_list.add_routes(api, self._bridges, self._database)
        ag_ui_http.add_routes(api, self._ag_ui)

    def start(self) -> None:
        """Start the agents outside; call it once the port is open."""
        self._bridges.start()

    def stop(self) -> None:
        """Who reads an answer is told to come back."""
        self._ag_ui.stop()

    def check(self) -> Check:
        """Whether those outside run: what does not is told with its reason, and the gateway serves the rest."""
        failed = {
            name: state.detail
            for name, one in self._bridges.outside.items()
            if (state := one.runner.standing()).standing is Standing.FAILED
        }
        detail = " ".join(f"{name} does not run: {why}" for name, why in failed.items())
        return Check(CHECK, not failed, detail, is_vital=False)
