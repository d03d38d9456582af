"""A command that somebody may not give."""

from entobot.core.errors import Code, Problem
from entobot.policies.service import Wish


class CommandRefused(Problem):
    """`rule` says what refused it; `is_known`: the thing's type has such a command, so its name is a word of ours."""

    def __init__(self, name: str, wish: Wish, rule: str, *, is_known: bool) -> None:
        super().__init__(Code.FORBIDDEN, f"{name} may not be told '{wish.command}': {rule}.")
        self.wish = wish
        self.rule = rule
        self.is_known = is_known
