"""What a model is told: the conversation as it stood, and why something was not done. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from entobot.agents.model import CallState, ToolCall
from entobot.agents.runner import Line, LineFile, Speaker, ToolOutcome
from entobot.approvals.model import Approval, ApprovalState
from entobot.conversations.model import Message, MessageRole


def lines_of(known: Sequence[Message], prompt: Message) -> tuple[Line, ...]:
    """The conversation as it stood when the prompt's turn came: later questions are left out, earlier answers, which
    may stand after the prompt, are told before it.
    """
    places = {message.message_id: place for place, message in enumerate(known)}
    prompt_place = places.get(prompt.message_id, 0)
    before = [
        message
        for place, message in enumerate(known)
        if message.message_id != prompt.message_id and (message.role is MessageRole.ASSISTANT or place < prompt_place)
    ]
    return tuple(_line(message) for message in [*before, prompt])


def _line(message: Message) -> Line:
    files = tuple(LineFile(file.file_id, file.name, file.media_type, file.size) for file in message.files)
    return Line(Speaker(message.role.value), message.content, files, message.message_id)


def outcome_of(call: ToolCall, approval: Approval | None) -> ToolOutcome:
    """What became of a call, and with which arguments where a person gave it others."""
    is_edited = approval is not None and approval.edited_action is not None and call.state is not CallState.REFUSED
    return replace(call.outcome(), edited_args=call.args_json if is_edited else "")


def refusal_text(approval: Approval) -> str:
    if approval.state is ApprovalState.EXPIRED:
        return "Nobody decided in time; it was not done."
    if approval.state is ApprovalState.CANCELLED:
        return "The run was stopped; it was not done."
    reason = "" if approval.reason is None else f" Reason given: {approval.reason}"
    return f"A person refused this; it was not done.{reason}"
