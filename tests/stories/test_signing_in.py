"""Signing in with a browser: by a one-time link, then by a passkey; and what a thief of either gets."""

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from entobot.core.errors import Code, Problem
from entobot.core.permissions import ROLE_SCOPES, Role
from entobot.core.secrets import b64u
from tests.support.browser import Browser
from tests.support.operator import Operator
from tests.support.process import ROOMY, GatewayProcess

ME = "/api/v1/me"
ASSERT = "/api/v1/sign-in/passkey"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("signing") / "home", environment=ROOMY, host="127.0.0.1")
    process.origin = process.environment["ENTOBOT_GATEWAY__PUBLIC_URL"] = f"https://localhost:{process.port}"
    yield process.start()
    process.close()


@pytest.fixture
def operator(gateway: GatewayProcess) -> Operator:
    return Operator(gateway)


def signed_in(gateway: GatewayProcess, operator: Operator, role: Role = Role.ADMIN) -> Browser:
    """A person of that role, with a passkey, signed in just now."""
    user_id = operator.add_user("Somebody", role)
    browser = Browser(gateway)
    browser.authenticator.credential_id = user_id.encode()
    browser.follow(link_for(operator, user_id))
    browser.add_passkey()
    return browser


def link_for(operator: Operator, user_id: str) -> str:
    return str(operator.local.request("POST", f"/api/v1/users/{user_id}/sign-in-link")["url"])


def code_of(doing: Any, *arguments: Any, **more: Any) -> Code:
    with pytest.raises(Problem) as caught:
        doing(*arguments, **more)
    return caught.value.code


def test_a_link_signs_in_once_and_a_passkey_from_then_on(gateway: GatewayProcess) -> None:
    gateway.ask("users", "add", "alice", "--role", "admin")
    url = gateway.cli("users", "link", "alice").stdout.split()[0]
    assert url.startswith(f"{gateway.origin}/admin#link=ent_lnk_")
    browser = Browser(gateway)
    browser.authenticator.credential_id = b"alice"
    me = browser.follow(url)
    assert (me["login"], me["role"], set(me["scopes"])) == ("alice", "admin", ROLE_SCOPES[Role.ADMIN])
    assert code_of(Browser(gateway).follow, url) is Code.UNAUTHENTICATED
    assert browser.add_passkey("Alice's laptop")["is_backed_up"]

    again = Browser(gateway)
    again.authenticator = browser.authenticator
    assert again.sign_in()["user_id"] == me["user_id"]
    assert [row["name"] for row in again.request("GET", ME + "/passkeys")["rows"]] == ["Alice's laptop"]
    sessions = again.request("GET", "/api/v1/sessions")["rows"]
    assert [(row["method"], row["is_this"]) for row in sessions] == [("passkey", True), ("link", False)]
    assert again.request("GET", "/api/v1/users")["rows"]
    events = {row["event"] for row in gateway.ask("audit", "list")}
    assert {"sign_in.link_made", "session.opened", "passkey.added"} <= events


def test_of_many_who_open_a_link_at_once_one_gets_in(gateway: GatewayProcess, operator: Operator) -> None:
    url = link_for(operator, operator.add_user("Raced"))

    def try_it(_: int) -> bool:
        try:
            Browser(gateway).follow(url)
        except Problem:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(try_it, range(16))) == 1


def test_a_link_that_is_fetched_signs_nobody_in_and_is_not_used_up(gateway: GatewayProcess, operator: Operator) -> None:
    url = link_for(operator, operator.add_user("Previewed"))
    secret = url.rpartition("=")[2]
    before = operator.state()
    fetcher = Browser(gateway)
    assert fetcher.send("GET", "/admin").status_code == 200
    assert fetcher.send("GET", f"/admin?link={secret}").status_code < 500
    assert code_of(fetcher.request, "GET", "/api/v1/sign-in/link", params={"link": secret}) is Code.INVALID
    assert fetcher.cookie is None
    assert operator.state() == before
    assert fetcher.follow(url)["session_id"]


def test_a_new_link_voids_the_one_before(gateway: GatewayProcess, operator: Operator) -> None:
    user_id = operator.add_user("Twice")
    first, second = link_for(operator, user_id), link_for(operator, user_id)
    assert code_of(Browser(gateway).follow, first) is Code.UNAUTHENTICATED
    assert Browser(gateway).follow(second)["user_id"] == user_id


def test_the_cookie_is_bound_to_this_host_and_no_script_reads_it(gateway: GatewayProcess, operator: Operator) -> None:
    browser = Browser(gateway)
    link = link_for(operator, operator.add_user("Cookie")).rpartition("=")[2]
    response = browser.send("POST", "/api/v1/sign-in/link", json={"link": link})
    beginnings: list[str] = []
    for cookie in response.headers.get_list("set-cookie"):
        name, *attributes = [part.strip().lower() for part in cookie.split(";")]
        beginnings.append(name[:24])
        assert {"httponly", "secure", "samesite=strict", "path=/"} <= set(attributes)
        assert not any(part.startswith("domain") for part in attributes)
    assert beginnings == ["__host-entobot_session=e", "__host-entobot_browser=u"]
    assert "ent_ses_" not in response.text


def test_signing_out_ends_the_session_and_clears_the_browser(gateway: GatewayProcess, operator: Operator) -> None:
    browser = signed_in(gateway, operator)
    stolen = browser.cookie
    response = browser.send("POST", "/api/v1/sign-out")
    assert (response.status_code, browser.cookie) == (204, None)
    assert response.headers["clear-site-data"] == '"cache"'
    browser.cookie = stolen
    assert code_of(browser.request, "GET", ME) is Code.UNAUTHENTICATED


# -- what wants a fresh sign-in


def test_what_is_dangerous_wants_a_fresh_sign_in(gateway: GatewayProcess, operator: Operator) -> None:
    browser = signed_in(gateway, operator)
    me = browser.request("GET", ME)
    session = me["session_id"]
    operator.execute("UPDATE sessions SET created_at_ms = created_at_ms - 300001 WHERE session_id = ?", session)
    phone = operator.pair("Suspended", user_id=me["user_id"])
    assert phone.credentials is not None
    operator.change(phone, "suspend")
    dangerous: dict[str, dict[str, Any]] = {
        "/api/v1/users": {"json": {"login": "late", "name": "Late"}},
        "/api/v1/pairing/invites": {"json": {"kind": "qr"}},
        "/api/v1/api-keys": {"json": {"device_name": "Board"}},
        f"/api/v1/devices/{phone.credentials.device_id}/reactivate": {},
        ME + "/passkey-options": {},
    }
    for path, options in dangerous.items():
        assert code_of(browser.request, "POST", path, **options) is Code.STEP_UP_REQUIRED, path
    assert code_of(browser.request, "PUT", "/api/v1/settings/bot", json={}) is Code.STEP_UP_REQUIRED
    assert browser.request("GET", "/api/v1/users")["rows"], "reading does not"
    browser.sign_in()
    for path, options in dangerous.items():
        assert browser.request("POST", path, **options), path
    rows = browser.request("GET", "/api/v1/sessions")["rows"]
    assert [(row["session_id"] == session, row["is_this"]) for row in rows] == [(False, True)], (
        "in place of the old one"
    )


# -- thieves


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-site", "Origin": "https://localhost:1"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "null"},
    ],
)
def test_another_page_writes_nothing_with_the_cookie(
    gateway: GatewayProcess, operator: Operator, headers: dict[str, str]
) -> None:
    browser = signed_in(gateway, operator)
    before = operator.state(without={"sessions"})
    body = {"login": "planted", "name": "Planted", "role": "admin"}
    assert code_of(browser.request, "POST", "/api/v1/users", json=body, headers=headers) is Code.FORBIDDEN
    assert code_of(browser.request, "POST", "/api/v1/sign-out", headers=headers) is Code.FORBIDDEN
    assert operator.state(without={"sessions"}) == before
    if headers["Sec-Fetch-Site"] in ("cross-site", "same-site"):
        assert code_of(browser.request, "GET", ME, headers=headers) is Code.FORBIDDEN


def test_an_allowed_origin_of_another_site_still_has_no_use_of_a_session(tmp_path: Path) -> None:
    allowed = "https://partner.example"
    process = GatewayProcess(tmp_path / "home", environment={"ENTOBOT_GATEWAY__ALLOWED_ORIGINS": allowed})
    try:
        process.start()
        operator = Operator(process)
        browser = Browser(process)
        browser.follow(link_for(operator, operator.add_user("Somebody", "admin")))
        headers = {"Sec-Fetch-Site": "cross-site", "Origin": allowed}
        body = {"login": "planted", "name": "Planted"}
        assert code_of(browser.request, "POST", "/api/v1/users", json=body, headers=headers) is Code.FORBIDDEN
        assert code_of(browser.request, "GET", ME, headers=headers) is Code.FORBIDDEN
        response = browser.send("GET", ME, headers=headers)
        assert "access-control-allow-credentials" not in response.headers
    finally:
        process.close()


def test_two_cookies_of_the_name_are_none(gateway: GatewayProcess, operator: Operator) -> None:
    browser = signed_in(gateway, operator)
    own = f"__Host-entobot_session={browser.cookie}"
    for cookies in (f"{own}; {own}", f"__Host-entobot_session=ent_ses_x; {own}"):
        assert code_of(browser.request, "GET", ME, headers={"Cookie": cookies}) is Code.UNAUTHENTICATED
    assert browser.request("GET", ME, headers={"Cookie": f"theme=dark; {own}"})["session_id"]


def test_an_assertion_signs_in_once(gateway: GatewayProcess, operator: Operator) -> None:
    browser = signed_in(gateway, operator)
    assertion = browser.assertion()
    assert browser.request("POST", "/api/v1/sign-in/passkey", json=assertion)["session_id"]
    thief = Browser(gateway)
    for _ in range(2):
        assert code_of(thief.request, "POST", "/api/v1/sign-in/passkey", json=assertion) is Code.UNAUTHENTICATED


def test_an_assertion_that_is_not_quite_right_is_refused_and_changes_nothing(
    gateway: GatewayProcess, operator: Operator
) -> None:
    browser = signed_in(gateway, operator)
    other = signed_in(gateway, operator)
    registering = browser.request("POST", ME + "/passkey-options")["public_key"]
    before = operator.state()

    def refused(credential: Any) -> bool:
        body = {"credential": credential}
        return code_of(Browser(gateway).request, "POST", "/api/v1/sign-in/passkey", json=body) is Code.UNAUTHENTICATED

    def altered(**changes: Any) -> Any:
        made = browser.assertion()["credential"]
        return made | {"response": made["response"] | changes}

    mine, theirs = browser.authenticator, other.authenticator
    assert refused(
        altered(
            signature=theirs.get(browser.request("POST", "/api/v1/sign-in/passkey/options")["public_key"])["response"][
                "signature"
            ]
        )
    )
    assert refused(altered() | {"id": theirs.credential_id.hex(), "rawId": theirs.credential_id.hex()})
    assert refused(mine.get({"challenge": registering["challenge"], "rpId": "localhost"})), "made for registering"
    assert refused(mine.get({"challenge": "AAAA", "rpId": "localhost"})), "none of ours"
    assert refused(
        mine.get(browser.request("POST", "/api/v1/sign-in/passkey/options")["public_key"] | {"rpId": "evil"})
    )
    mine.is_verified = False
    assert refused(altered()), "nobody looked who was there"
    mine.is_verified = True
    mine.origin = "https://evil.example"
    assert refused(altered()), "signed for another page"
    mine.origin = gateway.origin
    mine.count = 0
    browser.sign_in()
    before = operator.state()
    mine.count = 0
    assert refused(altered()), "a copy of the authenticator counts from behind"
    assert operator.state() == before
    for nonsense in ({}, {"id": "x"}, {"id": 1, "response": {"clientDataJSON": "e30"}}, {"response": []}):
        assert refused(nonsense)


@pytest.mark.parametrize(
    "told",
    [
        b"[" * 20_000,
        b'{"challenge":' + b"[" * 20_000,
        b'{"challenge":5}',
        b'{"challenge":"\\ud800"}',
        b"5",
        b'"\\ud800"',
    ],
)
def test_an_answer_of_other_types_or_without_end_is_a_bad_one_and_no_defect(
    gateway: GatewayProcess, told: bytes
) -> None:
    credential = {"id": "x", "response": {"clientDataJSON": b64u(told)}}
    assert code_of(Browser(gateway).request, "POST", ASSERT, json={"credential": credential}) is Code.UNAUTHENTICATED


@pytest.mark.parametrize(
    "change",
    [
        {"id": "\u00e9"},
        {"id": "a\0b"},
        {"id": ["x"]},
        {"rawId": 5},
        {"type": []},
        {"response": 5},
        {"response": {"authenticatorData": 5}},
        {"response": {"authenticatorData": "AA"}},
        {"response": {"signature": ["x"]}},
        {"response": {"userHandle": 5}},
        {"clientExtensionResults": 5},
    ],
)
def test_no_member_of_a_passkeys_answer_is_a_defect_whatever_it_is(
    gateway: GatewayProcess, operator: Operator, change: dict[str, Any]
) -> None:
    browser = signed_in(gateway, operator)
    credential = browser.assertion()["credential"]
    response = change.get("response")
    changed = credential | ({"response": credential["response"] | response} if isinstance(response, dict) else change)
    sent = browser.send("POST", ASSERT, json={"credential": changed})
    assert sent.status_code in (200, 401, 422), sent.text


def test_a_passkey_is_registered_by_whom_it_was_made_for(gateway: GatewayProcess, operator: Operator) -> None:
    victim, thief = signed_in(gateway, operator), signed_in(gateway, operator, Role.MEMBER)
    options = victim.request("POST", ME + "/passkey-options")["public_key"]
    thief.authenticator.credential_id = b"planted"
    body = {"name": "Planted", "credential": thief.authenticator.create(options)}
    assert code_of(thief.request, "POST", ME + "/passkeys", json=body) is Code.UNAUTHENTICATED
    theirs = victim.request("GET", ME + "/passkeys")["rows"][0]["passkey_id"]
    assert code_of(thief.request, "DELETE", f"{ME}/passkeys/{theirs}") is Code.NOT_FOUND
    assert code_of(thief.request, "PATCH", f"{ME}/passkeys/{theirs}", json={"name": "x"}) is Code.NOT_FOUND


@pytest.mark.parametrize("role", list(Role))
def test_a_session_may_what_its_persons_role_says(gateway: GatewayProcess, operator: Operator, role: Role) -> None:
    browser = signed_in(gateway, operator, role)
    assert set(browser.request("GET", ME)["scopes"]) == ROLE_SCOPES[role]
    for path, scope in {"/api/v1/users": "users.manage", "/api/v1/audit": "audit", "/metrics": "metrics"}.items():
        assert (browser.send("GET", path).status_code == 200) is (scope in ROLE_SCOPES[role]), (role, path)
    owner = operator.local.request("GET", ME)["user_id"]
    path = f"/api/v1/users/{owner}/sign-in-link"
    if role is Role.OWNER:
        assert browser.request("POST", path)["url"]
    else:
        assert code_of(browser.request, "POST", path) is Code.FORBIDDEN, "nobody signs in as somebody above"


def test_who_is_disabled_is_signed_out_everywhere_and_has_no_way_back(
    gateway: GatewayProcess, operator: Operator
) -> None:
    browser = signed_in(gateway, operator)
    me = browser.request("GET", ME)["user_id"]
    operator.local.request("POST", f"/api/v1/users/{me}/disable")
    assert code_of(browser.request, "GET", ME) is Code.UNAUTHENTICATED
    assert code_of(browser.sign_in) is Code.UNAUTHENTICATED
    assert code_of(operator.local.request, "POST", f"/api/v1/users/{me}/sign-in-link") is Code.FORBIDDEN
    operator.local.request("POST", f"/api/v1/users/{me}/enable")
    assert code_of(browser.sign_in) is Code.UNAUTHENTICATED, "the passkey went with the person"
    assert Browser(gateway).follow(link_for(operator, me))["user_id"] == me


def test_a_lesser_role_ends_what_a_session_might(gateway: GatewayProcess, operator: Operator) -> None:
    browser = signed_in(gateway, operator)
    me = browser.request("GET", ME)["user_id"]
    operator.local.request("PATCH", f"/api/v1/users/{me}", json={"role": "member"})
    assert code_of(browser.request, "GET", "/api/v1/users") is Code.FORBIDDEN


def test_a_session_is_ended_from_another_one(gateway: GatewayProcess, operator: Operator) -> None:
    browser = signed_in(gateway, operator)
    lost = Browser(gateway)
    lost.authenticator = browser.authenticator
    session = lost.sign_in()["session_id"]
    stranger = signed_in(gateway, operator, Role.MEMBER)
    assert code_of(stranger.request, "DELETE", f"/api/v1/sessions/{session}") is Code.NOT_FOUND
    assert browser.send("DELETE", f"/api/v1/sessions/{session}").status_code == 204
    assert code_of(lost.request, "GET", ME) is Code.UNAUTHENTICATED


def test_a_session_opens_no_event_stream_and_decides_nothing_it_was_not_asked(
    gateway: GatewayProcess, operator: Operator
) -> None:
    browser = signed_in(gateway, operator)
    assert code_of(browser.request, "GET", "/api/v1/events") is Code.FORBIDDEN
    decision = {"approval_id": "apr_0", "decision": "approve", "action_sha256": "x", "signature": "x"}
    body = {"id": "01M7ZVT6BGR5YMWG6NQZR1AYJJ", "name": "approval.decide", "data": decision}
    assert code_of(browser.request, "POST", "/api/v1/commands", json=body) is Code.NOT_FOUND


def test_a_refused_sign_in_is_counted_and_told_to_whoever_bans_addresses(gateway: GatewayProcess) -> None:
    def count() -> float:
        text = gateway.cli("metrics", "--raw").stdout
        found = re.search(
            r'^entobot_auth_failures_total{reason="unauthenticated",transport="http"} (\S+)$', text, re.MULTILINE
        )
        return 0.0 if found is None else float(found[1])

    before = count()
    for _ in range(3):
        assert code_of(Browser(gateway).follow, "#link=ent_lnk_wrong") is Code.UNAUTHENTICATED
    assert count() == before + 3
    assert '"event": "credentials.refused"' in gateway.log.read_text()


async def test_sign_ins_of_one_address_are_limited(tmp_path: Path) -> None:
    process = GatewayProcess(tmp_path / "home")
    await asyncio.to_thread(process.start)
    try:
        browser = Browser(process)
        codes = [code_of(browser.follow, "#link=ent_lnk_wrong") for _ in range(40)]
        assert set(codes) == {Code.UNAUTHENTICATED, Code.RATE_LIMITED}
        assert codes.index(Code.RATE_LIMITED) >= 20
    finally:
        await asyncio.to_thread(process.close)


def test_an_address_is_no_name_for_passkeys(shared_gateway: GatewayProcess) -> None:
    assert code_of(Browser(shared_gateway).request, "POST", "/api/v1/sign-in/passkey/options") is Code.INVALID


def test_an_admin_becomes_no_owner_by_a_link_made_before_the_promotion(
    gateway: GatewayProcess, operator: Operator
) -> None:
    mallory = signed_in(gateway, operator)
    alice = operator.add_user("Alice", Role.ADMIN)
    url = mallory.request("POST", f"/api/v1/users/{alice}/sign-in-link")["url"]
    operator.local.request("PATCH", f"/api/v1/users/{alice}", json={"role": "owner"})
    assert code_of(Browser(gateway).follow, url) is Code.UNAUTHENTICATED


def test_an_invite_from_a_session_that_was_taken_away_pairs_nobody(gateway: GatewayProcess) -> None:
    """Whoever stole the session could go on with a device of their own."""
    operator = Operator(gateway)
    browser = signed_in(gateway, operator, Role.OPERATOR)
    thief = browser.request(
        "POST", "/api/v1/pairing/invites", json={"kind": "qr", "confirm": "none", "scopes": ["chat"]}
    )
    kept = operator.invite()
    user_id = browser.request("GET", "/api/v1/me")["user_id"]
    operator.local.request("POST", f"/api/v1/users/{user_id}/reset-factors")
    with pytest.raises(Problem):
        operator.claim(gateway.new_device(), thief)
    states = {
        row["invite_id"]: row["state"] for row in operator.local.request("GET", "/api/v1/pairing/invites")["rows"]
    }
    assert (states[thief["invite_id"]], states[kept["invite_id"]]) == ("cancelled", "open")


@pytest.mark.parametrize("how", ["disable", "reset-factors", "narrow"])
def test_who_was_dismissed_does_not_come_back_through_a_link_made_before(
    gateway: GatewayProcess, operator: Operator, how: str
) -> None:
    mallory, alice = signed_in(gateway, operator), operator.add_user("Alice", Role.ADMIN)
    url = mallory.request("POST", f"/api/v1/users/{alice}/sign-in-link")["url"]
    path = f"/api/v1/users/{mallory.request('GET', ME)['user_id']}"
    if how == "narrow":
        operator.local.request("PATCH", path, json={"role": "operator"})
    else:
        operator.local.request("POST", f"{path}/{how}")
    assert operator.query("SELECT * FROM sign_in_links WHERE user_id = ?", alice) == []
    assert code_of(Browser(gateway).follow, url) is Code.UNAUTHENTICATED
