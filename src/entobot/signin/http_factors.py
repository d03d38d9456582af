"""REST routes of passwords, authenticator apps and recovery codes."""

from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field

from entobot.core.clock import rfc3339_or_none
from entobot.core.errors import Code
from entobot.signin.factors import Factors
from entobot.signin.http import SignedIn, SigningIn
from entobot.signin.passkeys import Passkeys
from entobot.signin.password_rules import MAX_CHARACTERS, MIN_CHARACTERS
from entobot.signin.passwords import Passwords
from entobot.web.authentication import Caller
from entobot.web.routes import Api


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SignInWays(_Body):
    passkeys: bool = Field(description="false where the gateway has an address and no name.")
    passwords: bool


class PasswordSignIn(_Body):
    login: str = Field(max_length=64)
    password: str = Field(max_length=MAX_CHARACTERS)
    code: str | None = Field(
        default=None, max_length=32, description="Of the authenticator app, or a recovery code: after `totp_required`."
    )


class NewPassword(_Body):
    password: str = Field(
        max_length=MAX_CHARACTERS,
        description=f"At least {MIN_CHARACTERS} characters, and not one that everybody tries.",
    )


class EnrolmentBody(_Body):
    secret: str = Field(description="Base32, for apps without a camera. Shown once.")
    uri: str = Field(description="`otpauth://…`, what the picture holds.")
    qr_svg: str
    enrolment: str = Field(description="Goes back with the first code. Nothing is stored until then.")


class TotpConfirmation(_Body):
    enrolment: str = Field(max_length=512)
    code: str = Field(max_length=32)


class RecoveryCodes(_Body):
    codes: list[str] = Field(description="Each works once, in the place of the authenticator app. Shown once.")


class FactorsBody(_Body):
    passwords_on: bool = Field(description="Whether this gateway takes passwords.")
    password_set_at: str | None
    authenticator_added_at: str | None
    recovery_codes_left: int
    recovery_code_used_at: str | None = Field(description="When one was used last.")
    needs_second_factor: bool = Field(description="A password alone is too little for this role.")


_OFF = (Code.FORBIDDEN, Code.SECOND_FACTOR_REQUIRED)
_GONE = (Code.FORBIDDEN, Code.NOT_FOUND, Code.SECOND_FACTOR_REQUIRED)


def add_routes(api: Api, passwords: Passwords, factors: Factors, passkeys: Passkeys, signing_in: SigningIn) -> None:
    routes = _Routes(passwords, factors, passkeys, signing_in)
    me = "/api/v1/me"
    once: dict[str, Any] = {"idempotent": False}
    told: dict[str, Any] = once | {"problems": (Code.FORBIDDEN, Code.NOT_FOUND)}
    api.add("GET", "/api/v1/sign-in", routes.get_ways)
    api.add("POST", "/api/v1/sign-in/password", routes.sign_in_by_password, problems=_SIGN_IN)
    api.add("GET", me + "/factors", routes.get_factors)
    api.add("PUT", me + "/password", routes.set_password, status_code=204, problems=_OFF, **once)
    api.add("DELETE", me + "/password", routes.remove_password, status_code=204, problems=_GONE)
    api.add("POST", me + "/totp", routes.begin_totp, **told)
    api.add("POST", me + "/totp/confirm", routes.confirm_totp, status_code=201, **told)
    api.add("DELETE", me + "/totp", routes.remove_totp, status_code=204, problems=_GONE)
    api.add("POST", me + "/recovery-codes", routes.renew_recovery_codes, status_code=201, **told)
    reset = "/api/v1/users/{user_id}/reset-factors"
    api.add("POST", reset, routes.reset_factors, status_code=204, problems=(Code.FORBIDDEN, Code.NOT_FOUND))


_SIGN_IN = (Code.UNAUTHENTICATED, Code.TOTP_REQUIRED, Code.SECOND_FACTOR_REQUIRED, Code.FORBIDDEN)


class _Routes:
    def __init__(self, passwords: Passwords, factors: Factors, passkeys: Passkeys, signing_in: SigningIn) -> None:
        self._passwords = passwords
        self._factors = factors
        self._passkeys = passkeys
        self._signing_in = signing_in

    async def get_ways(self) -> SignInWays:
        return SignInWays(passkeys=self._passkeys.are_possible, passwords=self._passwords.are_on)

    async def sign_in_by_password(self, body: PasswordSignIn, request: Request, response: Response) -> SignedIn:
        browser = self._signing_in.browser(request)
        return self._signing_in.answer(
            response, *await self._passwords.sign_in(body.login, body.password, body.code, browser)
        )

    async def get_factors(self, principal: Caller) -> FactorsBody:
        found = await self._factors.find(principal)
        return FactorsBody(
            passwords_on=self._factors.are_passwords_on,
            password_set_at=rfc3339_or_none(found.password_set_at_ms),
            authenticator_added_at=rfc3339_or_none(found.app_added_at_ms),
            recovery_codes_left=found.codes_left,
            recovery_code_used_at=rfc3339_or_none(found.code_used_at_ms),
            needs_second_factor=found.needs_second_factor,
        )

    async def set_password(self, body: NewPassword, principal: Caller) -> None:
        await self._factors.set_password(principal, body.password)

    async def remove_password(self, principal: Caller) -> None:
        await self._factors.remove_password(principal)

    async def begin_totp(self, principal: Caller) -> EnrolmentBody:
        made = await self._factors.begin(principal)
        return EnrolmentBody(secret=made.secret, uri=made.uri, qr_svg=made.qr_svg, enrolment=made.sealed)

    async def confirm_totp(self, body: TotpConfirmation, principal: Caller) -> RecoveryCodes:
        return RecoveryCodes(codes=await self._factors.confirm(principal, body.enrolment, body.code))

    async def remove_totp(self, principal: Caller) -> None:
        await self._factors.remove_app(principal)

    async def renew_recovery_codes(self, principal: Caller) -> RecoveryCodes:
        return RecoveryCodes(codes=await self._factors.renew_codes(principal))

    async def reset_factors(self, user_id: str, principal: Caller) -> None:
        await self._factors.reset(principal, user_id)
