"""A link as a picture. Pure and slow (13 to 46 ms): call it through `asyncio.to_thread`."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import segno

QUIET_ZONE = 4
"""Modules of empty border; ISO/IEC 18004 asks for four."""
_DARK_ON_WHITE = "\x1b[30;107m"
_RESET = "\x1b[0m"
_HALF_BLOCKS = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}


def _code(url: str) -> "segno.QRCode":
    import segno  # 2 MB, and most starts of a gateway pair nobody

    # Level M: a phone photographs a clean screen, and a denser picture is harder to read than a damaged one.
    return segno.make_qr(url, error="m", boost_error=False)


def svg(url: str, title: str) -> str:
    """An `<svg>` element with its namespace (inline or as an image), on a white ground.

    No style, script, class or declaration in it, so any content security policy takes it.
    """
    picture = io.BytesIO()
    _code(url).save(
        picture,
        kind="svg",
        border=QUIET_ZONE,
        dark="#000",
        light="#fff",
        omitsize=True,
        xmldecl=False,
        nl=False,
        svgclass=None,
        lineclass=None,
        title=title,
    )
    return picture.getvalue().decode("utf-8")


def png(url: str) -> bytes:
    """A black and white PNG, eight pixels a module."""
    picture = io.BytesIO()
    _code(url).save(picture, kind="png", scale=8, border=QUIET_ZONE, dark="#000", light="#fff")
    return picture.getvalue()


def terminal(url: str) -> str:
    """Lines of half blocks, two modules a character.

    The colours are set outright (black on bright white), so it reads the same on dark and light terminals.
    """
    rows = [[bool(module) for module in row] for row in _code(url).matrix_iter(border=QUIET_ZONE)]
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    lines = [
        "".join(_HALF_BLOCKS[pair] for pair in zip(upper, lower, strict=True))
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    ]
    return "".join(f"{_DARK_ON_WHITE}{line}{_RESET}\n" for line in lines)
