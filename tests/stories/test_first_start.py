"""How the owner gets into the dashboard of a gateway that nobody has used: by what the terminal shows, and only there."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from entobot.core.errors import Code
from entobot.signin.model import FIRST_LINK_LIFE_MS
from tests.browser.terminal import Terminal
from tests.stories.test_signing_in import ME, code_of
from tests.support.browser import Browser
from tests.support.operator import Operator
from tests.support.process import GatewayProcess

LINK = r"https://\S+/admin#link=(ent_lnk_\S+)"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path / "home")
    process.origin = process.environment["ENTOBOT_GATEWAY__PUBLIC_URL"] = f"https://localhost:{process.port}"
    yield process
    process.close()


def started(gateway: GatewayProcess) -> Terminal:
    terminal = Terminal(gateway.environment, "up")
    terminal.wait_for("Stop with Ctrl-C")
    return terminal


def stopped(terminal: Terminal) -> str:
    terminal.press_ctrl_c()
    assert terminal.wait() == 0
    terminal.close()
    return terminal.text


def test_the_terminal_shows_a_link_until_the_owner_has_a_passkey(gateway: GatewayProcess) -> None:
    terminal = started(gateway)
    browser, url = Browser(gateway), terminal.wait_for(LINK)[0]
    made_ms = Operator(gateway).query("SELECT at_ms FROM audit_log WHERE event = 'sign_in.link_made'")[0][0]
    ends_ms = Operator(gateway).query("SELECT expires_at_ms FROM sign_in_links")[0][0]
    assert ends_ms - made_ms == FIRST_LINK_LIFE_MS
    assert stopped(terminal).count("ent_lnk_") == 1

    terminal = started(gateway)
    assert code_of(browser.follow, url) is Code.UNAUTHENTICATED, "the next start voids it"
    assert browser.follow(terminal.wait_for(LINK)[0])["role"] == "owner"
    assert code_of(Browser(gateway).follow, terminal.wait_for(LINK)[0]) is Code.UNAUTHENTICATED
    stopped(terminal)

    terminal = started(gateway)
    assert "ent_lnk_" not in terminal.text, "somebody is signed in"
    browser.add_passkey()
    browser.send("POST", "/api/v1/sign-out")
    stopped(terminal)

    terminal = started(gateway)
    assert "ent_lnk_" not in terminal.text
    assert "Set up" not in terminal.text
    assert browser.sign_in()["role"] == "owner"
    stopped(terminal)


def test_without_a_terminal_the_link_is_not_written_and_the_way_to_it_is(gateway: GatewayProcess) -> None:
    gateway.start()
    assert "entobot users link owner" in gateway.banner
    assert "ent_lnk_" not in gateway.banner + gateway.log.read_text()
    assert Operator(gateway).query("SELECT * FROM sign_in_links") == []
    Browser(gateway).follow(gateway.ask("users", "link", "owner")["url"])
    gateway.stop()
    gateway.start()
    assert "users link owner" not in gateway.banner


def test_nothing_that_somebody_signs_in_with_is_written_anywhere(gateway: GatewayProcess) -> None:
    password, wrong = "seven herons under a bridge", "typed by mistake somewhere"
    gateway.environment |= {
        "ENTOBOT_LOG__LEVEL": "debug",
        "ENTOBOT_LOG__FORMAT": "json",
        "ENTOBOT_SIGNIN__PASSWORDS": "true",
    }
    gateway.start()
    browser = Browser(gateway)
    url = gateway.ask("users", "link", "owner")["url"]
    browser.follow(url)
    cookies = [browser.cookie, browser.known]
    app = browser.add_app()
    browser.request("PUT", ME + "/password", json={"password": password})
    Operator(gateway).execute("UPDATE authenticators SET last_step = 0")
    code = app.code()
    assert code_of(Browser(gateway).use_password, "owner", wrong, code) is Code.UNAUTHENTICATED
    assert code_of(Browser(gateway).use_password, wrong, password) is Code.UNAUTHENTICATED
    spent = app.recovery_codes[0]
    for second in (code, spent):
        signed_in = Browser(gateway)
        signed_in.use_password("owner", password, second)
        cookies += [signed_in.cookie, signed_in.known]
    assert code_of(Browser(gateway).use_password, "owner", password, spent) is Code.UNAUTHENTICATED
    renewed = browser.request("POST", ME + "/recovery-codes")["codes"]
    body = {"enrolment": app.recovery_codes[1], "code": "000000"}
    assert code_of(browser.request, "POST", ME + "/totp/confirm", json=body) is Code.INVALID
    listed = str(gateway.ask("audit", "list")) + gateway.cli("metrics", "--raw").stdout
    gateway.stop()

    log = gateway.log.read_text()
    assert '"event": "request"' in log, "the log is at debug"
    stored = b"".join(path.read_bytes() for path in gateway.home.rglob("*") if path.is_file())
    assert b"authenticator.added" in stored, "what is stored is looked at"
    secrets = [password, wrong, base64.b32encode(app.secret).decode(), url.rpartition("#link=")[2], *map(str, cookies)]
    for one in (*app.recovery_codes, *renewed):
        secrets += [one, one.replace("-", "")]
    assert all(len(secret) >= 10 for secret in secrets)
    assert [one for one in secrets if one in log or one in listed or one.encode() in stored] == []
    assert app.secret not in stored
