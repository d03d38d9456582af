"""Pictures of a link: each must hold exactly the modules that the QR encoder made, and a quiet zone."""

import re
import struct
import zlib
from xml.etree import ElementTree as ET

import segno

from entobot.core import qr

URL = f"https://192.168.1.20:18790/pair#v=1&i=inv_{'0' * 26}&s={'s' * 43}&g={'g' * 43}&x=1790000000"
BORDER = 4
Modules = list[list[bool]]


def expected() -> Modules:
    """Dark modules as an independent call of the encoder gives them, without a border."""
    return [[bool(module) for module in row] for row in segno.make_qr(URL, error="m", boost_error=False).matrix]


def framed(size: int, dark: Modules) -> Modules:
    """The inside of a picture, once its border is known to be light."""
    assert len(dark) == len(dark[0]) == size + 2 * BORDER
    inside = [row[BORDER:-BORDER] for row in dark[BORDER:-BORDER]]
    assert sum(map(sum, dark)) == sum(map(sum, inside)), "the quiet zone is light"
    return inside


def test_the_svg_draws_the_code() -> None:
    modules = expected()
    size = len(modules) + 2 * BORDER
    root = ET.fromstring(qr.svg(URL, "A link"))
    assert root.attrib["viewBox"] == f"0 0 {size} {size}"
    ground, lines = [child for child in root if child.tag.endswith("path")]
    assert (ground.attrib["fill"], lines.attrib["stroke"]) == ("#fff", "#000")
    dark = [[False] * size for _ in range(size)]
    x = y = 0.0
    for command, numbers in re.findall(r"([Mmh])([-0-9. ]+)", lines.attrib["d"]):
        values = [float(number) for number in numbers.split()]
        if command == "h":
            for step in range(int(values[0])):
                dark[int(y)][int(x) + step] = True
            x += values[0]
        elif command == "M":
            x, y = values
        else:
            x, y = x + values[0], y + values[1]
    assert framed(len(modules), dark) == modules


def test_the_svg_is_allowed_by_a_strict_content_security_policy() -> None:
    text = qr.svg(URL, "A link")
    assert text.startswith("<svg ")
    assert not re.search(r"style|script|class=|\son\w+=|href|<\?xml|<!DOCTYPE", text, re.IGNORECASE)
    assert "/pair" not in text
    assert "sss" not in text, "the link stands in the picture only"


def test_the_png_holds_the_code() -> None:
    modules = expected()
    size = (len(modules) + 2 * BORDER) * 8
    data = qr.png(URL)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    assert (width, height, depth, colour) == (size, size, 1, 0), "one bit grey"
    packed = b"".join(body for kind, body in chunks(data) if kind == b"IDAT")
    raw = zlib.decompress(packed)
    stride = 1 + (size + 7) // 8
    rows = [bytes(stride - 1)]
    for start in range(0, len(raw), stride):
        line = raw[start + 1 : start + stride]
        assert raw[start] in (0, 2), "filters none and up"
        rows.append(line if raw[start] == 0 else bytes((a + b) & 255 for a, b in zip(line, rows[-1], strict=True)))
    rows = rows[1:]
    assert all(row == rows[at // 8 * 8] for at, row in enumerate(rows)), "a module is eight lines high"
    assert {pixels for row in rows for pixels in row} == {0, 255}, "and eight pixels, a byte, wide"
    dark = [[pixels == 0 for pixels in row] for row in rows[::8]]
    assert framed(len(modules), dark) == modules


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    position = 8
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        found.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += 12 + length
    return found


def test_the_terminal_shows_the_code_in_colours_of_its_own() -> None:
    modules = expected()
    size = len(modules) + 2 * BORDER
    lines = qr.terminal(URL).splitlines()
    assert len(lines) == (size + 1) // 2
    dark: Modules = []
    for line in lines:
        assert line.startswith("\x1b[30;107m"), "black on white, whatever the terminal's own colours are"
        assert line.endswith("\x1b[0m")
        blocks = line.removeprefix("\x1b[30;107m").removesuffix("\x1b[0m")
        assert len(blocks) == size
        dark.append([block in "▀█" for block in blocks])
        dark.append([block in "▄█" for block in blocks])
    assert not any(dark[size:][0]) if len(dark) > size else True
    assert framed(len(modules), dark[:size]) == modules
