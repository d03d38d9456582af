"""Who decides what, changed while the gateway runs: by an owner, in a browser that is freshly signed in or at the machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from entobot.accounts.model import User
from entobot.accounts.service import Accounts
from entobot.config_approvals import REQUESTER, ROLE, ApprovalPolicy
from entobot.core.errors import Code, Problem
from entobot.core.permissions import Role, Scope
from entobot.core.principal import Principal
from entobot.settings.model import Wrong, refusal
from entobot.settings.service import Change, Changed, State, StoredSettings
from entobot.storage.database import Database, Transaction

KEY = "approvals.policies"


@dataclass(frozen=True, slots=True)
class Look:
    """`may_change`: by whoever looks."""

    policies: tuple[ApprovalPolicy, ...]
    version: int
    state: State
    may_change: bool


class Policies:
    def __init__(self, settings: StoredSettings, accounts: Accounts, database: Database) -> None:
        self._settings = settings
        self._accounts = accounts
        self._database = database

    async def look(self, principal: Principal) -> Look:
        user = await self._database.read(lambda tx: self._accounts.find(tx, principal.user_id), is_small=True)
        (state,) = self._settings.states([KEY])
        return Look(
            policies=self._settings.in_force.approvals.policies,
            version=self._settings.version,
            state=state,
            may_change=_may_change(principal, user) and state.pinned_by is None,
        )

    async def change(
        self, principal: Principal, wanted: Sequence[dict[str, Any]] | None, version: int, *, is_dry_run: bool
    ) -> Changed:
        """Take these policies, in this order; None: those of file and defaults. The log has them whole, before and after.

        Raises `forbidden` for all but owners, and for devices and tokens; `invalid` with the first that is wrong, also
        where it names somebody who is not there; `settings_changed`.
        """
        policies = None if wanted is None else _read(wanted)
        await self._database.read(lambda tx: self._check(tx, principal, policies or []))
        values = {KEY: None if policies is None else [one.to_json() for one in policies]}
        return await self._settings.change(
            principal, Change(values, version=version, by_route=(KEY,), is_dry_run=is_dry_run)
        )

    def _check(self, tx: Transaction, principal: Principal, policies: Sequence[ApprovalPolicy]) -> None:
        if not _may_change(principal, self._accounts.find(tx, principal.user_id)):
            raise Problem(
                Code.FORBIDDEN, "Who decides is changed by an owner, in the dashboard or at the gateway's machine."
            )
        for place, policy in enumerate(policies, start=1):
            for word in (*policy.deciders, *policy.escalate_to):
                if word != REQUESTER and not word.startswith(ROLE):
                    self._check_login(tx, place, word)

    def _check_login(self, tx: Transaction, place: int, login: str) -> None:
        user = self._accounts.find_by_login(tx, login)
        if user is None or Scope.APPROVE not in user.scopes:
            why = "there is nobody of this name" if user is None else "this person may not approve anything"
            raise refusal([Wrong(KEY, f"is not right: policy {place}, {login[:64]}: {why}.")])


def _may_change(principal: Principal, user: User | None) -> bool:
    """Owners alone: whoever else may change settings must not be able to make themselves the one who decides."""
    is_person = principal.is_local or principal.session_id is not None
    return is_person and Scope.SETTINGS in principal.scopes and user is not None and user.role is Role.OWNER


def _read(wanted: Sequence[dict[str, Any]]) -> list[ApprovalPolicy]:
    found: list[ApprovalPolicy] = []
    for place, one in enumerate(wanted, start=1):
        try:
            found.append(ApprovalPolicy.model_validate(one))
        except ValidationError as error:
            said = str(error.errors(include_url=False, include_input=False)[0]["msg"]).removeprefix("Value error, ")
            raise refusal([Wrong(KEY, f"is not right: policy {place}: {said}")]) from None
    return found
