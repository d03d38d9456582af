"""What a person sees before deciding, and the exact text that is decided on. Pure."""

import json
from dataclasses import dataclass
from typing import Any, cast

import rfc8785

from entobot.client.events import Approval
from entobot.core.errors import Code, Problem
from entobot.core.secrets import same, sha256_b64u


@dataclass(frozen=True, slots=True)
class Action:
    """What would be executed: `tool` with `args`, and nothing else."""

    approval_id: str
    run_id: str
    tool: str
    args: dict[str, Any]

    def to_text(self) -> str:
        """RFC 8785. Raises `action_not_presentable` for values that have no such form."""
        members = {"approval_id": self.approval_id, "args": self.args, "run_id": self.run_id, "tool": self.tool}
        try:
            return rfc8785.dumps(members).decode("utf-8")
        except (rfc8785.CanonicalizationError, RecursionError):
            raise Problem(Code.ACTION_NOT_PRESENTABLE, "These arguments have no canonical JSON form.") from None


def read_action(approval: Approval) -> Action:
    """The action of an approval. Raises `hash_mismatch` unless its text is the one whose hash was told."""
    if not same(sha256_b64u(approval.action), approval.action_sha256):
        raise Problem(Code.HASH_MISMATCH, "The action is not the one that its hash stands for. Do not decide on it.")
    members = cast("dict[str, Any]", json.loads(approval.action))
    action = Action(members["approval_id"], members["run_id"], members["tool"], members["args"])
    if (action.approval_id, action.run_id) != (approval.approval_id, approval.run_id):
        raise Problem(Code.HASH_MISMATCH, "The action belongs to another approval. Do not decide on it.")
    return action


def shown(action: Action) -> str:
    """For a person: the tool and all its arguments; control, bidirectional and other invisible characters escaped."""
    text = f"{action.tool}\n{json.dumps(action.args, indent=2, ensure_ascii=False)}"
    return "".join(c if c == "\n" or c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    point = ord(character)
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"
