"""Every device command, from the features that carry them out."""

from entobot.agents import commands as agents_commands
from entobot.agents.service import Agents
from entobot.app.notifying import Notifying
from entobot.approvals import commands as approvals_commands
from entobot.approvals.service import Approvals
from entobot.conversations import commands as conversations_commands
from entobot.conversations.service import Conversations
from entobot.devices import commands as devices_commands
from entobot.devices.service import Devices
from entobot.gateway.commands import Command
from entobot.gateway.hub import Hub
from entobot.stream import commands as stream_commands
from entobot.stream.service import Stream


def device_commands(
    agents: Agents,
    approvals: Approvals,
    conversations: Conversations,
    devices: Devices,
    notifying: Notifying,
    stream: Stream,
    hub: Hub,
) -> list[Command]:
    return [
        *agents_commands.commands(agents),
        *approvals_commands.commands(approvals),
        *conversations_commands.commands(conversations),
        *devices_commands.commands(devices),
        *notifying.commands(),
        *stream_commands.commands(stream, hub.acknowledged),
    ]
