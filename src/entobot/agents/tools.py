"""What an agent can do: `clock`, `files.list`, `files.read`, `files.write`, `note`."""

import json
import unicodedata
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from entobot.agents.model import MAX_TITLE_CHARACTERS, Run, ToolCall
from entobot.agents.runner import ToolOffer
from entobot.agents.workspace import PathRefused, Workspace, check_path
from entobot.approvals.action import Args, parse_args
from entobot.approvals.model import Approval, ApprovalState, Question, Risk, risen
from entobot.core.clock import Clock, rfc3339
from entobot.core.errors import Code, Problem
from entobot.storage.database import Transaction

MAX_READ_BYTES = 256 * 1024
MAX_ENTRIES = 500
NOTES = "notes.txt"


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ToolFailed(Exception):  # noqa: N818  reads as what happened
    """The tool could not do it and changed nothing. The text goes to the model and to devices."""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """`run` blocks and is called in a thread of its own; `act` takes its place where a tool acts for the person whose
    run it is. `title` sums a call up for the person who is asked.
    """

    name: str
    description: str
    arguments: type[Arguments]
    run: Callable[[Any], str] = lambda _: ""
    needs_approval: bool = False
    risk: Risk = Risk.LOW
    title: Callable[[Any], str] = lambda _: ""
    act: Callable[[Any, str], Awaitable[str]] | None = None
    """`act(arguments, user_id)`, on the event loop."""
    weigh: Callable[[Transaction, Any, str], Risk | None] | None = None
    """`weigh(tx, arguments, user_id)`: what is at stake in this very call; None: nobody need be asked. `needs_approval`
    and `risk` are for where that cannot be known.
    """
    settle: Callable[[Transaction, Any, str], Args] | None = None
    """`settle(tx, arguments, user_id)`: the arguments that are put to a person and carried out, in which nothing stands
    for something else by then, as a name would.
    """
    asks_leave: bool = False
    """An agent outside carries it out, once it may; models are not offered it and cannot call it."""
    is_durable: bool = False
    """Of `asks_leave`: the agent can be told at any time, by any node; nothing waits in a process."""


class Toolbox:
    def __init__(self, specs: list[ToolSpec]) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self.offers = tuple(ToolOffer(s.name, s.description, _schema(s.arguments)) for s in specs if not s.asks_leave)

    def plus(self, specs: list[ToolSpec]) -> "Toolbox":
        """The same tools, and these."""
        return Toolbox([*self._specs.values(), *specs])

    def asks_leave(self, name: str) -> bool:
        """Whether an agent outside carries it out."""
        spec = self.find(name)
        return spec is not None and spec.asks_leave

    def is_held(self, name: str) -> bool:
        """Whether an agent outside waits for leave in one process, the only one that can give it."""
        spec = self.find(name)
        return spec is not None and spec.asks_leave and not spec.is_durable

    def find(self, name: str) -> ToolSpec | None:
        return self._specs.get(name)

    def check(self, name: str, args: Args) -> Arguments:
        """The arguments as the tool takes them. Raises `invalid`."""
        spec = self.find(name)
        if spec is None:
            raise Problem(Code.INVALID, "There is no such tool.")
        try:
            return spec.arguments.model_validate_json(json.dumps(args))
        except ValidationError as error:
            raise Problem(Code.INVALID, f"The arguments do not fit the tool: {_explain(error)}.") from None

    def judge(self, name: str, args: Args) -> Risk:
        """What is at stake with these arguments. Raises `invalid`. Also the check of an edited action."""
        self.check(name, args)
        return self._specs[name].risk

    def weigh(self, tx: Transaction, spec: ToolSpec, args: Args, user_id: str) -> Risk | None:
        """As `judge`, of a call that this person's run makes; None where nobody need be asked. Raises Problem."""
        checked = self.check(spec.name, args)
        if spec.weigh is not None:
            return spec.weigh(tx, checked, user_id)
        return spec.risk if spec.needs_approval else None

    def question(self, tx: Transaction, spec: ToolSpec, run: Run, call: ToolCall, risk: Risk) -> Question:
        """What is put to a person of a call that `weigh` let pass."""
        args, args_json = parse_args(call.args_json), call.args_json
        if spec.settle is not None:
            settled = spec.settle(tx, self.check(spec.name, args), run.user_id)
            args_json = json.dumps(settled, ensure_ascii=False)
        return Question(
            user_id=run.user_id,
            run_id=run.run_id,
            conversation_id=run.conversation_id,
            tool_call_id=call.tool_call_id,
            tool=spec.name,
            args_json=args_json,
            title=self.title(spec, args),
            risk=risk,
        )

    def objection(self, tx: Transaction, approval: Approval) -> str:
        """Why what a person approved is not done any more: more is at stake by now. Empty where nothing is.

        What they changed was judged as high as can be. What cannot be weighed any more is refused where it is carried out.
        """
        spec = self.find(approval.tool)
        is_as_asked = approval.state is ApprovalState.APPROVED and approval.edited_action is None
        if spec is None or spec.weigh is None or not is_as_asked:
            return ""
        try:
            risk = self.weigh(tx, spec, approval.signed_action().args, approval.user_id)
        except Problem:
            return ""
        return risen(approval, risk)

    async def carry_out(
        self, name: str, args: Args, user_id: str, in_thread: Callable[[Callable[[], str]], Awaitable[str]]
    ) -> str:
        """Raises as `run` does."""
        spec = self.find(name)
        if spec is None or spec.act is None:
            return await in_thread(lambda: self.run(name, args))
        return await spec.act(self.check(name, args), user_id)

    def run(self, name: str, args: Args) -> str:
        """Blocks. Raises ToolFailed when nothing was done, anything else when that is not known."""
        checked = self.check(name, args)
        spec = self._specs[name]
        try:
            return spec.run(checked)
        except PathRefused as refusal:
            raise ToolFailed(str(refusal)) from None

    def title(self, spec: ToolSpec, args: Args) -> str:
        """One printable line: control and bidirectional characters are replaced, long ones cut."""
        line = spec.title(self.check(spec.name, args)) or spec.name
        visible = "".join("\ufffd" if unicodedata.category(c).startswith("C") else c for c in line)
        return visible if len(visible) <= MAX_TITLE_CHARACTERS else visible[: MAX_TITLE_CHARACTERS - 1] + "…"


def _file_path(path: str) -> str:
    return _checked_path(path, may_be_root=False)


def _folder_path(path: str) -> str:
    return _checked_path(path, may_be_root=True)


def _checked_path(path: str, *, may_be_root: bool) -> str:
    try:
        check_path(path, may_be_root=may_be_root)
    except PathRefused as refusal:
        raise ValueError(str(refusal)) from None
    return path


class ClockArguments(Arguments):
    pass


class ListArguments(Arguments):
    path: Annotated[
        str, AfterValidator(_folder_path), Field(description="Folder in the workspace; '.' is the root.")
    ] = "."


class ReadArguments(Arguments):
    path: Annotated[str, AfterValidator(_file_path), Field(description="File, relative to the workspace.")]


class WriteArguments(Arguments):
    path: Annotated[str, AfterValidator(_file_path), Field(description="File in the workspace; folders are made.")]
    content: Annotated[str, Field(description="The whole new content, as UTF-8 text.")]


class NoteArguments(Arguments):
    text: Annotated[str, Field(min_length=1, description="One note, appended to notes.txt in the workspace.")]


def built_in_tools(clock: Clock, workspace: Workspace) -> Toolbox:
    def tell_time(_: ClockArguments) -> str:
        return rfc3339(clock.now_ms())

    def list_files(args: ListArguments) -> str:
        entries, is_cut = workspace.list(args.path, MAX_ENTRIES)
        lines = [f"{e.name}/" if e.kind == "folder" else f"{e.name}  {_detail(e.kind, e.size_bytes)}" for e in entries]
        if is_cut:
            lines.append(f"… (only the first {MAX_ENTRIES})")
        return "\n".join(lines) or "(empty)"

    def read_file(args: ReadArguments) -> str:
        try:
            return workspace.read(args.path, MAX_READ_BYTES).decode("utf-8")
        except UnicodeDecodeError:
            raise ToolFailed("The file is not UTF-8 text.") from None

    def write_file(args: WriteArguments) -> str:
        data = args.content.encode("utf-8")
        workspace.write(args.path, data)
        return f"Wrote {len(data)} bytes to {args.path}."

    def note(args: NoteArguments) -> str:
        workspace.append(NOTES, f"{args.text}\n".encode())
        return f"noted: {args.text}"

    return Toolbox(
        [
            ToolSpec("clock", "The present date and time, UTC (RFC 3339).", ClockArguments, tell_time),
            ToolSpec("files.list", "List a folder of the workspace.", ListArguments, list_files),
            ToolSpec("files.read", "Read a text file of the workspace (256 KiB at most).", ReadArguments, read_file),
            ToolSpec(
                "files.write",
                "Create or replace a text file of the workspace. A person is asked first.",
                WriteArguments,
                write_file,
                needs_approval=True,
                risk=Risk.MEDIUM,
                title=lambda args: f"Write {args.path}",
            ),
            ToolSpec(
                "note",
                "Append a line to notes.txt in the workspace. A person is asked first.",
                NoteArguments,
                note,
                needs_approval=True,
                title=lambda args: f"Note: {args.text}",
            ),
        ]
    )


def _detail(kind: str, size_bytes: int) -> str:
    return f"{size_bytes} bytes" if kind == "file" else kind


def _schema(arguments: type[Arguments]) -> dict[str, Any]:
    schema = arguments.model_json_schema()
    schema.pop("title", None)
    for member in cast("dict[str, dict[str, Any]]", schema.get("properties", {})).values():
        member.pop("title", None)
    return schema


def _explain(error: ValidationError) -> str:
    """Which argument is wrong and why, without repeating what was sent."""
    items = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in items[:5])
