"""The log as text to take away, page by page: lines that can be verified offline, or a table for a spreadsheet."""

import asyncio
import csv
import io
from collections.abc import AsyncGenerator, Iterable
from typing import Any

from entobot.audit import store
from entobot.audit.checkpoints import place_at
from entobot.audit.heads import RunUnit
from entobot.audit.lines import FileHead, checkpoint_line, end_line, entry_line, head_line
from entobot.audit.model import Found, canonical
from entobot.audit.searching import Filters, find_page
from entobot.audit.store import StoredCheckpoint
from entobot.core.clock import rfc3339

PAGE = 256
COLUMNS = ("seq", "at", "event", "outcome", "user_id", "device_id", "subject", "facts", "personal", "hash")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What makes a spreadsheet compute a cell."""


class Unreadable(Exception):  # noqa: N818  reads as what was found
    """An entry was altered so that it cannot be written down."""


async def chain_lines(
    read: RunUnit, log_id: str, after: int, through: StoredCheckpoint | int, *, with_values: bool = True
) -> AsyncGenerator[bytes]:
    """Every entry behind `after`, up to a checkpoint, which then stands at the end, or to a number.

    Raises Broken and Unreadable for a log that was altered: the file then has no end.
    """
    last = through if isinstance(through, int) else through.tree.size
    place = await place_at(read, after)
    yield _text([head_line(FileHead(log_id, place.seq + 1, place.hash, place.tree))])
    while after < last:
        end = min(after + PAGE, last)
        rows = await read(lambda tx, a=after, e=end: store.raw_rows(tx, a, e))
        yield await asyncio.to_thread(_chain_page, rows, after, end, with_values)
        after = end
    tail = [] if isinstance(through, int) else [checkpoint_line(through.note)]
    yield _text([*tail, end_line(last)])


def _chain_page(rows: list[dict[str, Any]], after: int, end: int, with_values: bool) -> bytes:  # noqa: FBT001  called in a thread
    lines: list[str] = []
    for expected, (seq, entry, values) in enumerate(store.walked(rows), after + 1):
        if entry is None or seq != expected:
            raise Unreadable(f"Entry {expected} cannot be read. Run 'entobot audit verify'.")
        lines.append(entry_line(entry, values if with_values else None))
    if len(lines) != end - after:
        raise Unreadable(f"Entry {after + len(lines) + 1} is missing. Run 'entobot audit verify'.")
    return _text(lines)


async def selected_lines(read: RunUnit, log_id: str, filters: Filters, through: int) -> AsyncGenerator[bytes]:
    """The entries that match, oldest first; such a file says nothing of what was left out."""
    yield _text([head_line(FileHead(log_id, 1, None, None, filters.given()))])
    last = 0
    async for page in _pages(read, filters, through):
        last = page[-1].entry.seq
        yield await asyncio.to_thread(_selected_page, page)
    yield _text([end_line(last)])


def _selected_page(page: list[Found]) -> bytes:
    return _text(entry_line(one.entry, one.salted) for one in page)


async def table(read: RunUnit, filters: Filters, through: int) -> AsyncGenerator[bytes]:
    """CSV (RFC 4180) of the entries that match, oldest first. No cell is taken for a formula."""
    yield _rows([COLUMNS])
    async for page in _pages(read, filters, through):
        yield await asyncio.to_thread(_table_page, page)


def _table_page(page: list[Found]) -> bytes:
    return _rows([_cells(one) for one in page])


def _cells(one: Found) -> list[str]:
    entry, actor = one.entry, one.entry.actor
    cells = [
        str(entry.seq),
        rfc3339(entry.at_ms),
        entry.event,
        entry.outcome,
        "" if actor is None else actor.user_id,
        "" if actor is None else actor.device_id or "",
        entry.subject,
        canonical(entry.facts),
        "" if one.personal is None else canonical(one.personal),
        entry.hash.hex(),
    ]
    return [f"'{cell}" if cell.startswith(FORMULA) else cell for cell in cells]


async def _pages(read: RunUnit, filters: Filters, through: int) -> AsyncGenerator[list[Found]]:
    after: int | None = 0
    while after is not None and after < through:
        page = await read(lambda tx, a=after: find_page(tx, filters, after=a, before=None, limit=PAGE))
        entries = [one for one in page.entries if one.entry.seq <= through]
        if entries:
            yield entries
        after = page.next


def _rows(rows: Iterable[Iterable[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8")


def _text(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8")
