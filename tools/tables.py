"""Markdown as the generated pages write it."""

from collections.abc import Iterable

GENERATED = "<!-- Written by tools/reference.py (`make docs`). Change the code or that program, not this file. -->\n"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [_row(head)]
    lines.append(_row("---" for _ in lines[0].split(" | ")))
    lines += [_row(row) for row in rows]
    return "\n".join(lines) + "\n"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def page(title: str, lead: str, *parts: str) -> str:
    return "\n".join((GENERATED + f"# {title}\n", lead + "\n", *parts)).rstrip() + "\n"


def code(text: object) -> str:
    return f"`{text}`" if str(text) else ""
