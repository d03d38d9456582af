"""Who belongs here and how they sign in, built in one place."""

from dataclasses import dataclass

from entobot.accounts.people import People
from entobot.accounts.service import Accounts
from entobot.app.answering import Answering, Features
from entobot.app.ground import Ground
from entobot.audit.service import Audit
from entobot.gateway.rates import limit_meter
from entobot.home import Purpose
from entobot.signin import http, http_factors
from entobot.signin.attempts import Attempts
from entobot.signin.challenges import Challenges
from entobot.signin.factors import Factors
from entobot.signin.hashing import Hashing
from entobot.signin.http import SigningIn
from entobot.signin.known_browsers import KnownBrowsers
from entobot.signin.links import Links
from entobot.signin.passkeys import Passkeys
from entobot.signin.passwords import Passwords
from entobot.signin.sealing import Seal
from entobot.signin.sessions import Sessions
from entobot.web.routes import Api


@dataclass(frozen=True, slots=True)
class SignIn:
    sessions: Sessions
    links: Links
    passkeys: Passkeys
    passwords: Passwords
    factors: Factors
    hashing: Hashing
    attempts: Attempts
    signing_in: SigningIn

    def add_routes(self, api: Api, people: People, origin: str) -> None:
        http.add_routes(api, self.sessions, self.links, self.passkeys, people, self.signing_in, origin)
        http_factors.add_routes(api, self.passwords, self.factors, self.passkeys, self.signing_in)


def build_sign_in(ground: Ground, audit: Audit, accounts: Accounts) -> SignIn:
    sessions = Sessions(
        database=ground.database,
        clock=ground.clock,
        ids=ground.ids,
        entropy=ground.entropy,
        audit=audit,
        accounts=accounts,
        key=ground.keys.key(Purpose.SESSIONS),
        origin=ground.origin,
    )
    links = Links(
        database=ground.database,
        clock=ground.clock,
        entropy=ground.entropy,
        audit=audit,
        accounts=accounts,
        sessions=sessions,
        key=ground.keys.key(Purpose.SIGN_IN_LINKS),
    )
    passkeys = Passkeys(
        database=ground.database,
        clock=ground.clock,
        audit=audit,
        accounts=accounts,
        sessions=sessions,
        challenges=Challenges(ground.keys.key(Purpose.SIGN_IN_CHALLENGES), ground.entropy),
        origin=ground.origin,
        gateway_name=ground.name,
    )
    hashing = Hashing(ground.keys.key(Purpose.PASSWORDS), ground.entropy)
    factors = _build_factors(ground, audit, accounts, sessions, hashing)
    attempts = Attempts(ground.clock.monotonic, limit_meter(ground.meters))
    browsers = KnownBrowsers(ground.keys.key(Purpose.KNOWN_BROWSERS), ground.entropy)
    passwords = Passwords(
        database=ground.database,
        clock=ground.clock,
        audit=audit,
        accounts=accounts,
        sessions=sessions,
        factors=factors,
        hashing=hashing,
        attempts=attempts,
        browsers=browsers,
    )
    signing_in = SigningIn(browsers, ground.clock)
    return SignIn(sessions, links, passkeys, passwords, factors, hashing, attempts, signing_in)


def _build_factors(ground: Ground, audit: Audit, accounts: Accounts, sessions: Sessions, hashing: Hashing) -> Factors:
    return Factors(
        database=ground.database,
        clock=ground.clock,
        entropy=ground.entropy,
        audit=audit,
        accounts=accounts,
        sessions=sessions,
        hashing=hashing,
        seal=Seal(ground.keys.key(Purpose.AUTHENTICATORS), ground.entropy),
        recovery_key=ground.keys.key(Purpose.RECOVERY_CODES),
        gateway_name=ground.name,
        are_passwords_on=ground.settings.signin.passwords,
    )


def gather_people(ground: Ground, features: Features, answering: Answering, sign_in: SignIn) -> People:
    """People, and what ends with them in the features above."""
    devices = features.devices
    sign_in.sessions.recheck = devices.guard
    people = People(
        database=ground.database,
        clock=ground.clock,
        ids=ground.ids,
        audit=features.audit,
        accounts=features.accounts,
        guard=devices.guard,
    )
    people.on_leaving += [
        devices.end_all,
        answering.agents.end_all,
        answering.approvals.end_all,
        sign_in.sessions.end_all,
    ]
    people.on_narrowed += [devices.renew_all, sign_in.sessions.void_links_by]
    people.on_raised.append(sign_in.sessions.void_resting_on_password)
    return people
