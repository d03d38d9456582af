"""Every role against every route: what the table of permissions does not give is refused, and changes nothing."""

import re
from collections.abc import Iterator

import pytest

from entobot.core.access import ROUTES, Open
from entobot.core.errors import Code
from entobot.core.ids import Prefix
from entobot.core.permissions import ROLE_SCOPES, Role, Scope
from tests.stories.test_signing_in import signed_in
from tests.support.operator import Operator
from tests.support.process import ROOMY, GatewayProcess

CHANGES_BY_ITSELF = ("user_sessions", "sign_in_challenges")
"""When a session was seen last; challenges that come and go."""
NOBODY = "0" * 26


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("roles") / "home", environment=ROOMY, host="127.0.0.1")
    process.origin = process.environment["ENTOBOT_GATEWAY__PUBLIC_URL"] = f"https://localhost:{process.port}"
    yield process.start()
    process.close()


def address(path: str, owner: str) -> str:
    """With an owner's things where there may be some: those are what somebody lesser would want."""
    known = {"user_id": owner, "device_id": f"{Prefix.DEVICE}_{NOBODY}"}
    return re.sub(r"\{(\w+)\}", lambda found: known.get(found[1], f"x_{NOBODY}"), path)


@pytest.mark.parametrize("role", [role for role in Role if ROLE_SCOPES[role] != frozenset(Scope)])
def test_a_role_gets_no_route_that_its_permissions_do_not_give(gateway: GatewayProcess, role: Role) -> None:
    operator = Operator(gateway)
    owner = operator.local.request("GET", "/api/v1/me")["user_id"]
    browser = signed_in(gateway, operator, role)
    before = operator.state(without=CHANGES_BY_ITSELF)
    wrong: list[str] = []
    tried = 0
    for route, access in ROUTES.items():
        if isinstance(access, Open) or access in ROLE_SCOPES[role]:
            continue
        method, path = route.split()
        options = {} if method in ("GET", "DELETE") else {"json": {}}
        answer = browser.send(method, address(path, owner), **options)
        tried += 1
        if answer.status_code != 403 or answer.json()["code"] != Code.FORBIDDEN:
            wrong.append(f"{route}: {answer.status_code} {answer.text[:120]}")
    assert wrong == []
    assert tried > 10
    assert operator.state(without=CHANGES_BY_ITSELF) == before


def test_routes_that_need_no_permission_are_the_ones_that_were_thought_about() -> None:
    """Anybody who is signed in has these, for what is their own. A new one is a decision."""
    own = sorted(route for route, access in ROUTES.items() if access is Open.AUTHENTICATED)
    assert own == [
        "DELETE /api/v1/devices/{device_id}",
        "DELETE /api/v1/files/{file_id}",
        "DELETE /api/v1/me/passkeys/{passkey_id}",
        "DELETE /api/v1/me/password",
        "DELETE /api/v1/me/totp",
        "DELETE /api/v1/notifications/places/{place_id}",
        "DELETE /api/v1/sessions/{session_id}",
        "GET /api/v1/auth/devices",
        "GET /api/v1/devices",
        "GET /api/v1/devices/{device_id}",
        "GET /api/v1/devices/{device_id}/connections",
        "GET /api/v1/devices/{device_id}/credentials",
        "GET /api/v1/devices/{device_id}/push",
        "GET /api/v1/files/{file_id}",
        "GET /api/v1/files/{file_id}/content",
        "GET /api/v1/me",
        "GET /api/v1/me/factors",
        "GET /api/v1/me/passkeys",
        "GET /api/v1/notifications",
        "GET /api/v1/notifications/places",
        "GET /api/v1/notifications/rules",
        "GET /api/v1/notifications/{notification_id}",
        "GET /api/v1/sessions",
        "GET /api/v1/updates/releases/{release_id}/content",
        "GET /api/v1/users/{user_id}",
        "PATCH /api/v1/devices/{device_id}",
        "PATCH /api/v1/me/passkeys/{passkey_id}",
        "POST /api/v1/auth/ws-ticket",
        "POST /api/v1/commands",
        "POST /api/v1/files",
        "POST /api/v1/files/{file_id}/finish",
        "POST /api/v1/me/passkey-options",
        "POST /api/v1/me/passkeys",
        "POST /api/v1/me/recovery-codes",
        "POST /api/v1/me/totp",
        "POST /api/v1/me/totp/confirm",
        "POST /api/v1/notifications/places",
        "POST /api/v1/notifications/places/{place_id}/code",
        "POST /api/v1/notifications/places/{place_id}/confirm",
        "POST /api/v1/notifications/places/{place_id}/test",
        "POST /api/v1/notifications/read",
        "POST /api/v1/notifications/{notification_id}/read",
        "POST /api/v1/sign-out",
        "PUT /api/v1/files/{file_id}/parts/{number}",
        "PUT /api/v1/me/password",
        "PUT /api/v1/notifications/rules",
    ]
