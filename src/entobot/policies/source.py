"""Where things stand in the text of policies: words, statements, and the word at which a parser stumbles. Pure."""

import re
from collections.abc import Callable
from dataclasses import dataclass

_WORD = re.compile(
    r'(?P<skip>\s+|//[^\n]*)|"(?:\\.|[^"\\])*"|[A-Za-z_]\w*|\d+|\?[a-z]+|==|!=|<=|>=|&&|\|\||::|.', re.DOTALL
)
ENDS_EARLY = "unexpected end of input"


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def words_of(text: str) -> list[Word]:
    """Without spaces and comments."""
    return [Word(found[0], found.start()) for found in _WORD.finditer(text) if found["skip"] is None]


def statements_of(text: str) -> list[list[Word]]:
    """The words of each; a semicolon ends one, and what follows the last is one as well."""
    found: list[list[Word]] = [[]]
    for word in words_of(text):
        found[-1].append(word)
        if word.text == ";":
            found.append([])
    return [words for words in found if words]


def place_of(text: str, at: int) -> tuple[int, int]:
    """Line and column, both from 1."""
    before = text[:at]
    return before.count("\n") + 1, at - (before.rfind("\n") + 1) + 1


def stumble(text: str, words: list[Word], error_of: Callable[[str], str | None]) -> tuple[int, str]:
    """Where the parser stumbles over this statement, and what it says. `error_of` is asked some dozen times.

    A parser that reads from left to right says of what stands before the bad word only that more must come; so the
    first beginning of which it says something else ends with the bad word.
    """
    low, high = 0, len(words) - 1
    begin = words[0].start

    def says(last: int) -> str | None:
        return error_of(text[begin : words[last].end])

    while low < high:
        middle = (low + high) // 2
        said = says(middle)
        if said is None or ENDS_EARLY in said:
            low = middle + 1
        else:
            high = middle
    said = says(low) or error_of(text[begin:]) or "this is no policy"
    if ENDS_EARLY in said:
        return words[-1].end, said
    is_complete = low == len(words) - 1
    return (named(words, said) if is_complete and words[low].text not in said else words[low].start), said


def named(words: list[Word], said: str) -> int:
    """Where what an error quotes stands first, else where the statement begins."""
    for ticked, last in re.findall(r"`([^`]+)`|: (\w+)$", said):
        quoted = ticked or last
        for name in (quoted, quoted.rpartition("::")[2], quoted.partition(".")[0]):
            for word in words:
                if word.text.strip('"') == name.strip('"'):
                    return word.start
    return words[0].start
