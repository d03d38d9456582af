"""Who belongs here and how they sign in, built in one place."""

from dataclasses import dataclass

from entobot.accounts.people import People
from entobot.accounts.service import Accounts
from entobot.agents.service import Agents
from entobot.app.answering import Features
from entobot.app.ground import Ground
from entobot.audit.service import Audit
from entobot.home import Purpose
from entobot.signin.challenges import Challenges
from entobot.signin.links import Links
from entobot.signin.passkeys import Passkeys
from entobot.signin.sessions import Sessions


@dataclass(frozen=True, slots=True)
class SignIn:
    sessions: Sessions
    links: Links
    passkeys: Passkeys


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
    return SignIn(sessions, links, passkeys)


def gather_people(ground: Ground, features: Features, agents: Agents, accounts: Accounts, sign_in: SignIn) -> People:
    """People, and what ends with them in the features above."""
    devices = features.devices
    sign_in.sessions.recheck = devices.guard
    people = People(
        database=ground.database,
        clock=ground.clock,
        ids=ground.ids,
        audit=features.audit,
        accounts=accounts,
        guard=devices.guard,
    )
    people.on_leaving += [devices.end_all, agents.end_all, sign_in.sessions.end_all]
    people.on_narrowed.append(devices.renew_all)
    return people
