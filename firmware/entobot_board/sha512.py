"""SHA-512 (FIPS 180-4), for Ed25519: MicroPython has SHA-256 only. Slow; what is hashed here has some 100 bytes."""

_WORD = (1 << 64) - 1


def sha512(data: bytes) -> bytes:
    constants = _roots(80, 3)
    state = _roots(8, 2)
    size = len(data)
    data = data + b"\x80" + bytes((111 - size) % 128) + (size * 8).to_bytes(16, "big")
    for at in range(0, len(data), 128):
        state = _block(state, [int.from_bytes(data[at + n : at + n + 8], "big") for n in range(0, 128, 8)], constants)
    return b"".join([word.to_bytes(8, "big") for word in state])


def _block(state, w, constants):
    for n in range(16, 80):
        one, other = w[n - 15], w[n - 2]
        low = _turn(one, 1) ^ _turn(one, 8) ^ one >> 7
        high = _turn(other, 19) ^ _turn(other, 61) ^ other >> 6
        w.append((w[n - 16] + low + w[n - 7] + high) & _WORD)
    a, b, c, d, e, f, g, h = state
    for n in range(80):
        one = _turn(e, 14) ^ _turn(e, 18) ^ _turn(e, 41)
        one = h + one + (e & f ^ ~e & g) + constants[n] + w[n]
        other = (_turn(a, 28) ^ _turn(a, 34) ^ _turn(a, 39)) + (a & b ^ a & c ^ b & c)
        a, b, c, d, e, f, g, h = (one + other) & _WORD, a, b, c, (d + one) & _WORD, e, f, g
    last = a, b, c, d, e, f, g, h
    return [(state[n] + last[n]) & _WORD for n in range(8)]


def _turn(word: int, by: int) -> int:
    return (word >> by | word << 64 - by) & _WORD


def _roots(count: int, power: int) -> list:
    """The first 64 bits behind the point of the square or cube roots of so many primes: computed, since a table of them
    would lie in memory for ever.
    """
    found, number = [], 2
    while len(found) < count:
        if all(number % divisor for divisor in range(2, number) if divisor * divisor <= number):
            found.append(_root(number << 64 * power, power) & _WORD)
        number += 1
    return found


def _root(number: int, power: int) -> int:
    """The whole part, by Newton's method from above."""
    guess = 1 << 64 + 9 // power
    while True:
        better = ((power - 1) * guess + number // guess ** (power - 1)) // power
        if better >= guess:
            return guess
        guess = better
