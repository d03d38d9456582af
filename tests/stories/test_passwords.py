"""Signing in with a password and an authenticator app, where the operator allows it; and what guessing comes to."""

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entobot.core.errors import Code, Problem
from entobot.core.permissions import ROLE_SCOPES, Role
from tests.stories.test_signing_in import ME, code_of, link_for
from tests.support.browser import App, Browser
from tests.support.operator import Operator
from tests.support.process import GENEROUS_S, ROOMY, GatewayProcess

PASSWORD = "seven herons under a bridge"
OTHER = "a bridge above six herons"

LOG = ("audit_head", "audit_log", "audit_personal")


def held(operator: Operator) -> tuple[dict[str, str], int]:
    """All there is, and how far the log goes."""
    return operator.state(without=LOG), operator.gateway.ask("audit", "list")[0]["seq"]


def assert_unchanged(operator: Operator, before: tuple[dict[str, str], int]) -> None:
    """The gateway is that of all stories here: once a minute it sums up in its log what was guessed in another one."""
    tables, seq = before
    assert operator.state(without=LOG) == tables
    logged = {row["event"] for row in operator.gateway.ask("audit", "list") if row["seq"] > seq}
    assert logged <= {"sign_in.refused"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    environment = {**ROOMY, "ENTOBOT_SIGNIN__PASSWORDS": "true"}
    process = GatewayProcess(tmp_path_factory.mktemp("passwords") / "home", environment=environment, host="127.0.0.1")
    process.origin = process.environment["ENTOBOT_GATEWAY__PUBLIC_URL"] = f"https://localhost:{process.port}"
    yield process.start()
    process.close()


@pytest.fixture
def operator(gateway: GatewayProcess) -> Operator:
    return Operator(gateway)


def came_by_link(gateway: GatewayProcess, operator: Operator, role: Role = Role.ADMIN) -> Browser:
    browser = Browser(gateway)
    user_id = operator.add_user("Somebody", role)
    browser.authenticator.credential_id = user_id.encode()
    browser.follow(link_for(operator, user_id))
    return browser


def set_up(gateway: GatewayProcess, operator: Operator, role: Role = Role.ADMIN) -> tuple[Browser, str, App]:
    """A browser that is signed in, its person's login, and their authenticator app. The password is `PASSWORD`."""
    browser = came_by_link(gateway, operator, role)
    app = browser.add_app()
    browser.request("PUT", ME + "/password", json={"password": PASSWORD})
    return browser, str(browser.request("GET", ME)["login"]), app


def later(operator: Operator) -> None:
    """As if the codes that were used were of some minutes ago."""
    operator.execute("UPDATE authenticators SET last_step = last_step - 100")


def refusals(gateway: GatewayProcess, user_id: str, count: int) -> list[dict[str, Any]]:
    """Of this person, once there are so many: they are written after the answer."""
    end_s = time.monotonic() + GENEROUS_S
    while True:
        found = [one for one in entries(gateway, "sign_in.refused") if one["subject"] == user_id]
        if len(found) >= count:
            return found
        assert time.monotonic() < end_s


def entries(gateway: GatewayProcess, event: str) -> list[dict[str, Any]]:
    return gateway.ask("audit", "list", "--event", event)


def test_a_password_and_the_code_of_an_app_sign_in(gateway: GatewayProcess, operator: Operator) -> None:
    assert "signin.passwords" in gateway.banner, "what weakens something is told at the start"
    _, login, app = set_up(gateway, operator)
    browser = Browser(gateway)
    assert browser.request("GET", "/api/v1/sign-in") == {"passkeys": True, "passwords": True}
    assert code_of(browser.use_password, login, PASSWORD) is Code.TOTP_REQUIRED
    assert browser.cookie is None, "not signed in by half"
    me = browser.use_password(f" {login.upper()} ", PASSWORD, app.code(1))
    assert set(me["scopes"]) == ROLE_SCOPES[Role.ADMIN]
    assert browser.request("GET", "/api/v1/users")["rows"]
    sessions = browser.request("GET", "/api/v1/sessions")["rows"]
    assert [row["method"] for row in sessions] == ["totp", "link"]
    events = {row["event"] for row in gateway.ask("audit", "list")}
    assert {"authenticator.added", "password.set", "session.opened"} <= events


def test_a_code_is_taken_once(gateway: GatewayProcess, operator: Operator) -> None:
    browser, login, app = set_up(gateway, operator)
    used = app.code()
    assert code_of(Browser(gateway).use_password, login, PASSWORD, used) is Code.UNAUTHENTICATED, "it confirmed the app"
    later(operator)
    assert browser.use_password(login, PASSWORD, used)["session_id"]
    assert code_of(Browser(gateway).use_password, login, PASSWORD, used) is Code.UNAUTHENTICATED
    later(operator)
    operator.execute("UPDATE authenticators SET last_step = last_step + 102")
    assert code_of(browser.use_password, login, PASSWORD, app.code()) is Code.UNAUTHENTICATED, "older than one that was"


def test_a_recovery_code_stands_for_the_app_once_and_only_beside_the_password(
    gateway: GatewayProcess, operator: Operator
) -> None:
    browser, login, app = set_up(gateway, operator)
    first, second, *rest = app.recovery_codes
    assert len({first, second, *rest}) == 10
    assert code_of(Browser(gateway).use_password, login, first) is Code.UNAUTHENTICATED
    typed = first.lower().replace("-", " ").replace("0", "o")
    signed_in = Browser(gateway)
    assert signed_in.use_password(login, PASSWORD, typed)["session_id"]
    assert code_of(Browser(gateway).use_password, login, PASSWORD, first) is Code.UNAUTHENTICATED
    found = browser.request("GET", ME + "/factors")
    assert (found["recovery_codes_left"], found["recovery_code_used_at"] is not None) == (9, True)
    assert entries(gateway, "recovery_code.used")[0]["facts"] == {"left": 9}
    assert browser.request("GET", "/api/v1/sessions")["rows"][0]["method"] == "recovery"

    renewed = signed_in.request("POST", ME + "/recovery-codes")["codes"]
    assert code_of(Browser(gateway).use_password, login, PASSWORD, second) is Code.UNAUTHENTICATED, (
        "those before are void"
    )
    assert Browser(gateway).use_password(login, PASSWORD, renewed[0])["session_id"]
    other, other_login, _ = set_up(gateway, operator, Role.MEMBER)
    assert code_of(other.use_password, other_login, PASSWORD, renewed[1]) is Code.UNAUTHENTICATED, "nobody else's"


def test_nobody_who_reaches_beyond_themselves_has_a_password_alone(gateway: GatewayProcess, operator: Operator) -> None:
    for role in (Role.OWNER, Role.ADMIN, Role.OPERATOR, Role.VIEWER):
        browser = came_by_link(gateway, operator, role)
        assert browser.request("GET", ME + "/factors")["needs_second_factor"]
        body = {"password": PASSWORD}
        assert code_of(browser.request, "PUT", ME + "/password", json=body) is Code.SECOND_FACTOR_REQUIRED
        browser.add_app()
        browser.request("PUT", ME + "/password", json=body)
        assert code_of(browser.request, "DELETE", ME + "/totp") is Code.SECOND_FACTOR_REQUIRED
        browser.request("DELETE", ME + "/password")
        browser.request("DELETE", ME + "/totp")
        left = browser.request("GET", ME + "/factors")
        assert (left["password_set_at"], left["authenticator_added_at"], left["recovery_codes_left"]) == (None, None, 0)


def test_a_members_password_is_enough_until_they_are_more_than_a_member(
    gateway: GatewayProcess, operator: Operator
) -> None:
    browser = came_by_link(gateway, operator, Role.MEMBER)
    browser.request("PUT", ME + "/password", json={"password": PASSWORD})
    me = browser.use_password(browser.request("GET", ME)["login"], PASSWORD)
    operator.local.request("PATCH", f"/api/v1/users/{me['user_id']}", json={"role": "admin"})
    assert code_of(browser.request, "GET", ME) is Code.UNAUTHENTICATED, "opened by a password alone"
    refused = code_of(Browser(gateway).use_password, me["login"], PASSWORD)
    assert refused is Code.SECOND_FACTOR_REQUIRED
    assert code_of(Browser(gateway).use_password, me["login"], OTHER) is Code.UNAUTHENTICATED, "told to nobody else"


def test_a_fresh_sign_in_by_password_and_code_opens_what_is_dangerous(
    gateway: GatewayProcess, operator: Operator
) -> None:
    browser, login, app = set_up(gateway, operator)
    later(operator)
    operator.execute("UPDATE sessions SET created_at_ms = created_at_ms - 300001")
    dangerous: list[tuple[str, str, Any]] = [
        ("PUT", ME + "/password", {"password": OTHER}),
        ("DELETE", ME + "/password", None),
        ("DELETE", ME + "/totp", None),
        ("POST", ME + "/totp", None),
        ("POST", ME + "/totp/confirm", {"enrolment": "x", "code": "000000"}),
        ("POST", ME + "/recovery-codes", None),
        ("POST", f"/api/v1/users/{browser.request('GET', ME)['user_id']}/reset-factors", None),
        ("POST", "/api/v1/pairing/invites", {"kind": "qr"}),
    ]
    before = held(operator)
    for method, path, body in dangerous:
        more = {} if body is None else {"json": body}
        assert code_of(browser.request, method, path, **more) is Code.STEP_UP_REQUIRED, path
    assert_unchanged(operator, before)
    assert code_of(browser.use_password, login, PASSWORD) is Code.TOTP_REQUIRED, "half a sign-in is none"
    assert code_of(browser.request, "POST", ME + "/recovery-codes") is Code.STEP_UP_REQUIRED
    browser.use_password(login, PASSWORD, app.code())
    assert len(browser.request("POST", ME + "/recovery-codes")["codes"]) == 10


def test_a_changed_password_ends_the_other_sessions(gateway: GatewayProcess, operator: Operator) -> None:
    browser, login, app = set_up(gateway, operator)
    other = Browser(gateway)
    later(operator)
    other.use_password(login, PASSWORD, app.code())
    browser.request("PUT", ME + "/password", json={"password": OTHER})
    assert code_of(other.request, "GET", ME) is Code.UNAUTHENTICATED
    later(operator)
    assert code_of(other.use_password, login, PASSWORD, app.code()) is Code.UNAUTHENTICATED
    assert other.use_password(login, OTHER, app.code())["session_id"]


@pytest.mark.parametrize("weak", ["short", "entobot-entobot-1", "Password1234!", "aaaaaaaaaaaaaaaaaa", "qwertyuiopas"])
def test_a_password_that_everybody_tries_is_refused(gateway: GatewayProcess, operator: Operator, weak: str) -> None:
    browser = came_by_link(gateway, operator, Role.MEMBER)
    assert code_of(browser.request, "PUT", ME + "/password", json={"password": weak}) is Code.INVALID


def test_an_enrolment_is_confirmed_once_by_whom_it_was_made_for(gateway: GatewayProcess, operator: Operator) -> None:
    victim, thief = came_by_link(gateway, operator), came_by_link(gateway, operator, Role.MEMBER)
    begun = victim.request("POST", ME + "/totp")
    assert begun["uri"].startswith("otpauth://totp/")
    assert begun["qr_svg"].startswith("<svg ")
    before = held(operator)
    for body in (
        {"enrolment": begun["enrolment"], "code": "000000"},
        {"enrolment": begun["enrolment"][:-4] + "AAAA", "code": "000000"},
        {"enrolment": "nothing", "code": "000000"},
    ):
        assert code_of(victim.request, "POST", ME + "/totp/confirm", json=body) is Code.INVALID
    app = App(base64.b32decode(begun["secret"]))
    body = {"enrolment": begun["enrolment"], "code": app.code()}
    assert code_of(thief.request, "POST", ME + "/totp/confirm", json=body) is Code.INVALID
    assert_unchanged(operator, before)
    assert victim.request("POST", ME + "/totp/confirm", json=body)["codes"]
    assert code_of(victim.request, "POST", ME + "/totp/confirm", json=body) is Code.INVALID, "it was used"


def test_a_device_changes_nothing_that_its_person_signs_in_with(gateway: GatewayProcess, operator: Operator) -> None:
    before = held(operator)
    for method, path, body in (
        ("PUT", ME + "/password", {"password": PASSWORD}),
        ("DELETE", ME + "/password", None),
        ("POST", ME + "/totp", None),
        ("DELETE", ME + "/totp", None),
        ("POST", ME + "/recovery-codes", None),
        ("DELETE", ME + "/passkeys/x", None),
    ):
        more = {} if body is None else {"json": body}
        assert code_of(operator.local.request, method, path, **more) is Code.FORBIDDEN, path
    assert_unchanged(operator, before)


def test_an_admin_takes_away_all_that_somebody_signs_in_with(gateway: GatewayProcess, operator: Operator) -> None:
    admin = came_by_link(gateway, operator)
    lost, login, app = set_up(gateway, operator, Role.OPERATOR)
    lost.add_passkey()
    me = lost.request("GET", ME)["user_id"]
    path = f"/api/v1/users/{me}/reset-factors"
    assert code_of(lost.request, "POST", path) is Code.FORBIDDEN
    owner = operator.local.request("GET", ME)["user_id"]
    assert code_of(admin.request, "POST", f"/api/v1/users/{owner}/reset-factors") is Code.FORBIDDEN, "above them"
    assert admin.send("POST", path).status_code == 204
    assert code_of(lost.request, "GET", ME) is Code.UNAUTHENTICATED
    later(operator)
    assert code_of(lost.use_password, login, PASSWORD, app.code()) is Code.UNAUTHENTICATED
    assert code_of(lost.sign_in) is Code.UNAUTHENTICATED
    assert entries(gateway, "user.factors_reset")[0]["subject"] == me
    lost.follow(link_for(operator, me))
    assert lost.request("GET", ME + "/factors")["password_set_at"] is None
    told = gateway.cli("users", "reset-factors", login)
    assert (told.returncode, "users link" in told.stderr + told.stdout) == (0, True)
    assert code_of(lost.request, "GET", ME) is Code.UNAUTHENTICATED


# -- strangers


def test_nobody_learns_which_logins_there_are(gateway: GatewayProcess, operator: Operator) -> None:
    _, login, _ = set_up(gateway, operator)
    keyless = came_by_link(gateway, operator).request("GET", ME)["login"]
    answers: set[str] = set()
    for tried in (login, keyless, "nobody-at-all", "", "ä", "x" * 64):
        response = Browser(gateway).send("POST", "/api/v1/sign-in/password", json={"login": tried, "password": OTHER})
        answers.add(f"{response.status_code} {response.text} {sorted(response.headers)}")
    assert len(answers) == 1, answers


def test_guesses_are_told_in_one_entry_and_say_nothing_that_was_typed(
    gateway: GatewayProcess, operator: Operator
) -> None:
    browser, login, _ = set_up(gateway, operator)
    for _ in range(6):
        assert code_of(Browser(gateway).use_password, login, "typed-by-mistake-9") is Code.UNAUTHENTICATED
    found = refusals(gateway, browser.request("GET", ME)["user_id"], 1)
    assert len(found) == 1
    assert (found[0]["outcome"], found[0]["facts"]) == ("denied", {"reason": "password", "count": 1})
    assert "typed-by-mistake-9" not in str(found)


def test_a_right_password_without_a_second_factor_leaves_a_trace(gateway: GatewayProcess, operator: Operator) -> None:
    browser, login, _ = set_up(gateway, operator)
    raised = came_by_link(gateway, operator, Role.MEMBER)
    raised.request("PUT", ME + "/password", json={"password": PASSWORD})
    me = raised.request("GET", ME)
    operator.local.request("PATCH", f"/api/v1/users/{me['user_id']}", json={"role": "admin"})
    for _ in range(3):
        assert code_of(Browser(gateway).use_password, login, PASSWORD) is Code.TOTP_REQUIRED
        assert code_of(Browser(gateway).use_password, me["login"], PASSWORD) is Code.SECOND_FACTOR_REQUIRED
    assert code_of(Browser(gateway).use_password, login, OTHER) is Code.UNAUTHENTICATED
    told = [one["facts"] for one in refusals(gateway, browser.request("GET", ME)["user_id"], 2)]
    assert told == [{"reason": "password", "count": 1}, {"reason": "no_code", "count": 1}]
    assert [one["facts"]["reason"] for one in refusals(gateway, me["user_id"], 1)] == ["no_second_factor"]
    assert code_of(browser.use_password, login, PASSWORD) is Code.TOTP_REQUIRED


def test_who_guesses_slows_down_neither_a_known_browser_nor_passkeys_nor_links(
    gateway: GatewayProcess, operator: Operator
) -> None:
    known, login, app = set_up(gateway, operator)
    known.add_passkey()
    stranger, codes = Browser(gateway), []
    for _ in range(40):
        codes.append(code_of(stranger.use_password, login, OTHER))
        if codes[-1] is Code.RATE_LIMITED:
            break
    assert set(codes[:-1]) == {Code.UNAUTHENTICATED}
    assert codes[-1] is Code.RATE_LIMITED
    later(operator)
    assert code_of(stranger.use_password, login, PASSWORD, app.code()) is Code.RATE_LIMITED, "even the right one"
    assert known.use_password(login, PASSWORD, app.code())["session_id"]
    assert known.sign_in()["session_id"]
    user_id = known.request("GET", ME)["user_id"]
    assert stranger.follow(link_for(operator, user_id))["user_id"] == user_id


def test_a_known_browser_is_known_for_its_own_person_only(gateway: GatewayProcess, operator: Operator) -> None:
    mine, _, _ = set_up(gateway, operator)
    _, theirs, _ = set_up(gateway, operator)
    thief = Browser(gateway)
    thief.known = mine.known
    codes = [code_of(thief.use_password, theirs, OTHER) for _ in range(12)]
    assert codes[-1] is Code.RATE_LIMITED
    assert mine.known is not None
    forged = Browser(gateway)
    forged.known = mine.known[:-4] + "AAAA"
    assert code_of(forged.use_password, theirs, OTHER) is Code.RATE_LIMITED


# -- turned off


def test_where_passwords_are_off_none_is_taken_and_none_is_set(tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = GatewayProcess(home, environment={"ENTOBOT_SIGNIN__PASSWORDS": "true"})
    try:
        process.start()
        operator = Operator(process)
        browser, login, app = set_up(process, operator)
        process.stop()
        del process.environment["ENTOBOT_SIGNIN__PASSWORDS"]
        process.start()
        assert browser.request("GET", "/api/v1/sign-in") == {"passkeys": False, "passwords": False}
        assert browser.request("GET", ME)["login"] == login, "nobody is signed out"
        for wrong in (PASSWORD, OTHER):
            assert code_of(Browser(process).use_password, login, wrong, app.code(1)) is Code.FORBIDDEN
        for method, path, body in (("PUT", "/password", {"password": OTHER}), ("POST", "/totp", {})):
            with pytest.raises(Problem) as caught:
                browser.request(method, ME + path, json=body)
            assert caught.value.code is Code.FORBIDDEN
        assert browser.send("DELETE", ME + "/password").status_code == 204, "what is there can be removed"
        assert browser.send("DELETE", ME + "/totp").status_code == 204
    finally:
        process.close()


def test_what_a_password_alone_added_ends_with_a_promotion(gateway: GatewayProcess, operator: Operator) -> None:
    own = came_by_link(gateway, operator, Role.MEMBER)
    own.add_passkey("by the link")
    own.request("PUT", ME + "/password", json={"password": PASSWORD})
    me = own.request("GET", ME)
    thief, again = Browser(gateway), Browser(gateway)
    thief.authenticator.credential_id, again.authenticator.credential_id = b"planted", b"planted by the planted"
    thief.use_password(me["login"], PASSWORD)
    thief.add_passkey("planted")
    thief.sign_in()
    again.cookie = thief.cookie
    again.add_passkey("planted by the planted")
    app = thief.add_app()
    operator.local.request("PATCH", f"/api/v1/users/{me['user_id']}", json={"role": "admin"})
    assert code_of(thief.request, "GET", ME) is Code.UNAUTHENTICATED
    for browser in (thief, again):
        assert code_of(browser.sign_in) is Code.UNAUTHENTICATED
    assert code_of(thief.use_password, me["login"], PASSWORD, app.code(1)) is Code.SECOND_FACTOR_REQUIRED
    assert [row["name"] for row in own.request("GET", ME + "/passkeys")["rows"]] == ["by the link"]
    assert own.sign_in()["role"] == "admin"


def test_a_password_alone_makes_no_recovery_codes_of_an_app_that_somebody_else_added(
    gateway: GatewayProcess, operator: Operator
) -> None:
    own = came_by_link(gateway, operator, Role.MEMBER)
    own.request("PUT", ME + "/password", json={"password": PASSWORD})
    thief = Browser(gateway)
    thief.use_password(own.request("GET", ME)["login"], PASSWORD)
    own.add_app()
    assert code_of(thief.request, "POST", ME + "/recovery-codes") is Code.SECOND_FACTOR_REQUIRED
