"""Ed25519 (RFC 8032), verifying only, in integers: MicroPython has no library for it. Nothing here is secret, so it need
not take the same time for all inputs.

Stricter than the RFC has to be: one signature has one form, and a key of small order, for which anybody can make
signatures, is none.
"""

import gc

from .sha512 import sha512

_P = (1 << 255) - 19
_L = (1 << 252) + 27742317777372353535851937790883648493
_D = 37095705934669439343138083508754565189542113879843219016388785533085940283555
_ROOT = 19681161376707505956807079304988542015446066515923890162744021073123829784752
"""Of -1."""
_BX = 15112221349535400772501151409588531511454012693041857206046113283949847762202
_BY = 46316835694926478169428394003475163141307993866256225615783033603165251855960


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether this public key signed this message. Anything malformed is False."""
    if len(key) != 32 or len(signature) != 64:
        return False
    public, s = _point(key), int.from_bytes(signature[32:], "little")
    if public is None or s >= _L or _is_small(public):
        return False
    h = int.from_bytes(sha512(signature[:32] + key + message), "little") % _L
    gc.collect()
    x, y, z, _ = _sum(s, h, (_P - public[0], public[1], 1, (_P - public[0]) * public[1] % _P))
    inverse = pow(z, _P - 2, _P)
    x, y = x * inverse % _P, y * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little") == signature[:32]


def _point(data: bytes):
    """Its x and y; None for what is no point in its one form."""
    number = int.from_bytes(data, "little")
    y = number & ((1 << 255) - 1)
    if y >= _P:
        return None
    yy = y * y % _P
    u, v = (yy - 1) % _P, (_D * yy + 1) % _P
    v3 = v * v * v % _P
    x = u * v3 * pow(u * v3 * v3 * v % _P, (_P - 5) // 8, _P) % _P
    vxx = v * x * x % _P
    if vxx != u:
        if vxx != _P - u:
            return None
        x = x * _ROOT % _P
    odd = number >> 255
    if x == 0 and odd:
        return None
    return (_P - x if x & 1 != odd else x), y


def _is_small(point) -> bool:
    found = point[0], point[1], 1, point[0] * point[1] % _P
    for _ in range(3):
        found = _double(found)
    return found[0] == 0 and found[1] == found[2]


def _sum(s: int, h: int, point):
    """The base point `s` times, and this one `h` times."""
    base = _BX, _BY, 1, _BX * _BY % _P
    both = _add(base, point)
    total = 0, 1, 1, 0
    for bit in range(252, -1, -1):
        total = _double(total)
        of_s, of_h = s >> bit & 1, h >> bit & 1
        if of_s or of_h:
            total = _add(total, both if of_s and of_h else base if of_s else point)
    return total


def _add(one, other):
    x1, y1, z1, t1 = one
    x2, y2, z2, t2 = other
    a = (y1 - x1) * (y2 - x2) % _P
    b = (y1 + x1) * (y2 + x2) % _P
    c = 2 * _D * t1 % _P * t2 % _P
    d = 2 * z1 * z2 % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _double(one):
    x, y, z, _ = one
    a, b = x * x % _P, y * y % _P
    h = a + b
    e = h - (x + y) * (x + y) % _P
    g = a - b
    f = 2 * z * z % _P + g
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P
