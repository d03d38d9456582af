"""How often a password, and the code after it, may be tried. Pure but for the clock.

What strangers try with somebody's login slows down strangers: a browser in which this person signed in before has an
allowance of its own, and passkeys and links are not counted here at all.
"""

from collections.abc import Callable

from entobot.core.errors import Problem
from entobot.core.rates import Rate
from entobot.gateway.limits import Gcra
from entobot.gateway.rates import rate_limited
from entobot.web.addresses import address_key

MAX_KEYS = 16_384
PER_BROWSER_EVERY_S, PER_BROWSER_AT_ONCE = 30.0, 20
PER_PLACE_EVERY_S, PER_PLACE_AT_ONCE = 60.0, 10
PER_LOGIN_EVERY_S, PER_LOGIN_AT_ONCE = 20.0, 50
CODES_EVERY_S, CODES_AT_ONCE = 600.0, 10
"""Wrong codes after the right password: whoever gets so far and no further is somebody else."""


class Attempts:
    """Every password counts, good ones too, and before anything is computed: none of many at once slips through.

    A `login` counts as it was typed, whether or not anybody has it. `browser` is what `KnownBrowsers.read` says.
    """

    def __init__(self, monotonic: Callable[[], float], on_limited: Callable[[Rate], None] = lambda _: None) -> None:
        self._monotonic = monotonic
        self._on_limited = on_limited
        self._browsers = _gcra(PER_BROWSER_EVERY_S, PER_BROWSER_AT_ONCE)
        self._places = _gcra(PER_PLACE_EVERY_S, PER_PLACE_AT_ONCE)
        self._logins = _gcra(PER_LOGIN_EVERY_S, PER_LOGIN_AT_ONCE)
        self._known_codes = _gcra(CODES_EVERY_S, CODES_AT_ONCE)
        self._codes = _gcra(CODES_EVERY_S, CODES_AT_ONCE)

    def take_password(self, login: str, address: str, browser: str | None) -> None:
        """Raises `rate_limited`."""
        now_s = self._monotonic()
        if browser is not None:
            self._refuse_for(self._browsers.try_take(browser, now_s))
            return
        wait_s = self._logins.wait_s(login, now_s)
        wait_s = wait_s or self._places.try_take(f"{address_key(address)} {login}", now_s)
        self._refuse_for(wait_s or self._logins.try_take(login, now_s))

    def check_code(self, user_id: str, browser: str | None) -> None:
        """Raises `rate_limited`. Asked only where the password was right: nobody else can use this up.

        Those who ask at once may all go on; `take_password` has let in no more than a few dozen.
        """
        codes, key = self._codes_of(user_id, browser)
        self._refuse_for(codes.wait_s(key, self._monotonic()))

    def note_bad_code(self, user_id: str, browser: str | None) -> None:
        codes, key = self._codes_of(user_id, browser)
        codes.try_take(key, self._monotonic())

    def _codes_of(self, user_id: str, browser: str | None) -> tuple[Gcra, str]:
        return (self._codes, user_id) if browser is None else (self._known_codes, browser)

    def scale(self, nodes: int) -> None:
        """So many nodes count, each what it sees: together they allow what one would."""
        for gcra in (self._browsers, self._places, self._logins, self._known_codes, self._codes):
            gcra.scale(nodes)

    def _refuse_for(self, wait_s: float) -> None:
        if wait_s > 0:
            self._on_limited(Rate.SIGN_INS)
            raise _too_many(wait_s)


def _gcra(every_s: float, burst: int) -> Gcra:
    return Gcra(rate_per_s=1 / every_s, burst=burst, max_keys=MAX_KEYS)


def _too_many(wait_s: float) -> Problem:
    return rate_limited(
        "Too many attempts with this login. Wait, or sign in with a passkey or a link: those are not counted.", wait_s
    )
