"""REST routes of signing in, of sessions, and of one's own passkeys."""

from typing import Annotated, Any

from fastapi import Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from entobot.accounts.model import User
from entobot.accounts.people import People
from entobot.core.clock import Clock, rfc3339, rfc3339_or_none
from entobot.core.errors import Code
from entobot.core.permissions import Role, Scope
from entobot.signin.known_browsers import COOKIE as KNOWN_COOKIE
from entobot.signin.known_browsers import LIFE_MS, KnownBrowsers
from entobot.signin.links import Links
from entobot.signin.model import Method, Passkey, Session
from entobot.signin.passkeys import Passkeys
from entobot.signin.sessions import Browser, Opened, Sessions
from entobot.web.authentication import SESSION_COOKIE, Caller, only_cookie, presented
from entobot.web.routes import Api

CLEARED = '"cache"'
"""When somebody signs out (W3C Clear Site Data). Not "storage": a phone app in the same browser keeps its device there.
Not "cookies": the session's is deleted by name, and the browser stays a known one."""
MAX_CREDENTIAL_BYTES = 32_768


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SpendLink(_Body):
    link: str = Field(max_length=64, description="What follows `#link=` in the address.")


class Assertion(_Body):
    credential: dict[str, Any] = Field(description="`PublicKeyCredential.toJSON()` of `navigator.credentials.get`.")


class NewPasskey(_Body):
    name: str = Field(max_length=256)
    credential: dict[str, Any] = Field(description="`PublicKeyCredential.toJSON()` of `navigator.credentials.create`.")


class PasskeyName(_Body):
    name: str = Field(max_length=256)


class Options(_Body):
    public_key: dict[str, Any] = Field(description="For `PublicKeyCredential.parse…OptionsFromJSON`.")


class SignedIn(_Body):
    user_id: str
    login: str
    name: str
    role: Role
    scopes: list[Scope]
    session_id: str | None = Field(description="null where somebody is not signed in by a browser.")
    fresh_until: str | None = Field(description="Until when what wants a fresh sign-in may be done.")


class PasskeyRow(_Body):
    passkey_id: str
    name: str
    is_backed_up: bool = Field(description="Synchronised: losing the device does not lose it.")
    created_at: str
    last_used_at: str | None
    device_id: str | None = Field(description="The device that made it for itself; it signs nobody in.")


class PasskeyList(_Body):
    rows: list[PasskeyRow]


class SessionRow(_Body):
    session_id: str
    user_id: str
    method: Method
    user_agent: str
    address: str
    created_at: str
    last_seen_at: str
    is_this: bool


class SessionList(_Body):
    rows: list[SessionRow]


class LinkBody(_Body):
    url: str = Field(description="Shown once. Signs this person in, once.")
    expires_at: str


class SigningIn:
    """What every way to sign in asks of the request, and gives to the browser."""

    def __init__(self, browsers: KnownBrowsers, clock: Clock) -> None:
        self._browsers = browsers
        self._clock = clock

    def browser(self, request: Request) -> Browser:
        shown = presented(request)
        known = only_cookie(request.headers.getlist("cookie"), KNOWN_COOKIE)
        return Browser(request.headers.get("user-agent", ""), shown.address, shown.session, known)

    def answer(self, response: Response, user: User, opened: Opened) -> SignedIn:
        """The session's cookie goes when the browser does, and our side of it by itself; that of the known browser stays."""
        own: dict[str, Any] = {"path": "/", "secure": True, "httponly": True, "samesite": "strict"}
        response.set_cookie(SESSION_COOKIE, opened.secret, **own)
        known = self._browsers.new(user.user_id, self._clock.now_ms())
        response.set_cookie(KNOWN_COOKIE, known, max_age=LIFE_MS // 1000, **own)
        session = opened.session
        return _me(user, session.narrowed(user.scopes), session.session_id, session.fresh_until_ms)


def add_routes(
    api: Api, sessions: Sessions, links: Links, passkeys: Passkeys, people: People, signing_in: SigningIn, origin: str
) -> None:
    routes = _Routes(sessions, links, passkeys, people, signing_in, origin)
    me, refused = "/api/v1/me", (Code.UNAUTHENTICATED, Code.INVALID)
    big: dict[str, Any] = {"max_body_bytes": MAX_CREDENTIAL_BYTES, "idempotent": False}
    api.add("POST", "/api/v1/sign-in/link", routes.sign_in_by_link, problems=refused)
    api.add("POST", "/api/v1/sign-in/passkey/options", routes.begin_passkey_sign_in, problems=refused)
    api.add("POST", "/api/v1/sign-in/passkey", routes.sign_in_by_passkey, problems=refused, **big)
    api.add("POST", "/api/v1/sign-out", routes.sign_out, status_code=204, idempotent=False)
    api.add("GET", me, routes.get_me)
    api.add("GET", me + "/passkeys", routes.list_passkeys)
    api.add("POST", me + "/passkey-options", routes.begin_passkey, problems=(Code.FORBIDDEN,), idempotent=False)
    api.add("POST", me + "/passkeys", routes.add_passkey, status_code=201, problems=(Code.FORBIDDEN,), **big)
    api.add("PATCH", me + "/passkeys/{passkey_id}", routes.rename_passkey, status_code=204, problems=_ONE)
    api.add("DELETE", me + "/passkeys/{passkey_id}", routes.remove_passkey, status_code=204, problems=_REACH)
    api.add("GET", "/api/v1/sessions", routes.list_sessions, problems=_ONE)
    api.add("DELETE", "/api/v1/sessions/{session_id}", routes.end_session, status_code=204, problems=_REACH)
    api.add(
        "POST",
        "/api/v1/users/{user_id}/sign-in-link",
        routes.make_link,
        status_code=201,
        problems=_REACH,
        redact=_without_url,
    )


_ONE = (Code.NOT_FOUND,)
_REACH = (Code.NOT_FOUND, Code.FORBIDDEN)


class _Routes:
    def __init__(
        self,
        sessions: Sessions,
        links: Links,
        passkeys: Passkeys,
        people: People,
        signing_in: SigningIn,
        origin: str,
    ) -> None:
        self._sessions = sessions
        self._links = links
        self._passkeys = passkeys
        self._people = people
        self._signing_in = signing_in
        self._origin = origin

    async def sign_in_by_link(self, body: SpendLink, request: Request, response: Response) -> SignedIn:
        found = await self._links.spend(body.link, self._signing_in.browser(request))
        return self._signing_in.answer(response, *found)

    async def begin_passkey_sign_in(self) -> Options:
        return Options(public_key=await self._passkeys.sign_in_options())

    async def sign_in_by_passkey(self, body: Assertion, request: Request, response: Response) -> SignedIn:
        found = await self._passkeys.sign_in(body.credential, self._signing_in.browser(request))
        return self._signing_in.answer(response, *found)

    async def sign_out(self, principal: Caller) -> Response:
        if principal.session_id is not None:
            await self._sessions.end(principal, principal.session_id)
        response = Response(status_code=204, headers={"Clear-Site-Data": CLEARED})
        response.delete_cookie(SESSION_COOKIE, path="/", secure=True, httponly=True, samesite="strict")
        return response

    async def get_me(self, principal: Caller) -> SignedIn:
        user = await self._people.find(principal, principal.user_id)
        return _me(user, principal.scopes, principal.session_id, principal.fresh_until_ms)

    async def list_passkeys(self, principal: Caller) -> PasskeyList:
        return PasskeyList(rows=[_passkey_row(one) for one in await self._passkeys.find_all(principal)])

    async def begin_passkey(self, principal: Caller) -> Options:
        return Options(public_key=await self._passkeys.registration_options(principal))

    async def add_passkey(self, body: NewPasskey, principal: Caller) -> PasskeyRow:
        return _passkey_row(await self._passkeys.add(principal, body.name, body.credential))

    async def rename_passkey(self, passkey_id: str, body: PasskeyName, principal: Caller) -> None:
        await self._passkeys.rename(principal, passkey_id, body.name)

    async def remove_passkey(self, passkey_id: str, principal: Caller) -> None:
        await self._passkeys.remove(principal, passkey_id)

    async def list_sessions(
        self, principal: Caller, user_id: Annotated[str | None, Query(max_length=64)] = None
    ) -> SessionList:
        found = await self._sessions.find_all(principal, user_id)
        return SessionList(rows=[_session_row(one, principal.session_id) for one in found])

    async def end_session(self, session_id: str, principal: Caller) -> None:
        await self._sessions.end(principal, session_id)

    async def make_link(self, user_id: str, principal: Caller) -> LinkBody:
        made = await self._links.make(principal, user_id)
        return LinkBody(url=f"{self._origin}/admin#link={made.secret}", expires_at=rfc3339(made.expires_at_ms))


def _me(user: User, scopes: frozenset[Scope], session_id: str | None, fresh_until_ms: int | None) -> SignedIn:
    return SignedIn(
        user_id=user.user_id,
        login=user.login,
        name=user.name,
        role=user.role,
        scopes=sorted(scopes),
        session_id=session_id,
        fresh_until=rfc3339_or_none(fresh_until_ms),
    )


def _passkey_row(passkey: Passkey) -> PasskeyRow:
    return PasskeyRow(
        passkey_id=passkey.passkey_id,
        name=passkey.name,
        is_backed_up=passkey.is_backed_up,
        created_at=rfc3339(passkey.created_at_ms),
        last_used_at=rfc3339_or_none(passkey.last_used_at_ms),
        device_id=passkey.device_id,
    )


def _session_row(session: Session, this: str | None) -> SessionRow:
    return SessionRow(
        session_id=session.session_id,
        user_id=session.user_id,
        method=session.method,
        user_agent=session.user_agent,
        address=session.address,
        created_at=rfc3339(session.created_at_ms),
        last_seen_at=rfc3339(session.last_seen_at_ms),
        is_this=session.session_id == this,
    )


def _without_url(answer: dict[str, Any]) -> dict[str, Any]:
    return answer | {"url": ""}
