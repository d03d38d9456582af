"""Renewing the credentials of an open connection, as its state machine decides it."""

import json

from entobot.core.permissions import DEFAULT_DEVICE_SCOPES
from entobot.core.principal import Principal
from entobot.gateway.connection import Authenticate, Connection, Effect, End, Join, Pace, Send
from entobot.gateway.wire import Close

TICKET_HOLDER = Principal("usr_1", DEFAULT_DEVICE_SCOPES, "dev_1", 1, "thumb", 301_000)
TOKEN_HOLDER = Principal("usr_1", DEFAULT_DEVICE_SCOPES, "dev_1", 1, "thumb", 601_000)


def opened(expires_in_s: float = 300.0) -> Connection:
    """A connection that was opened with a ticket at second 1, never silent."""
    connection = Connection(nonce="n-1", now_s=1.0, pace=Pace(silence_s=10_000, heartbeat_s=10_000))
    (effect,) = connection.text(b'{"type":"auth","ticket":"t"}', 1.0)
    assert isinstance(effect, Authenticate)
    (joined,) = connection.authenticated(TICKET_HOLDER, expires_in_s, 1.0)
    assert isinstance(joined, Join)
    connection.joined()
    return connection


def sent(effects: list[Effect]) -> list[str]:
    return [json.loads(effect.payload)["type"] for effect in effects if isinstance(effect, Send)]


def test_a_connection_on_a_ticket_is_asked_for_token_and_proof_before_it_ends() -> None:
    connection = opened()
    assert connection.next_check_s() == 241.0
    assert connection.tick(240.9, "n-2") == []
    assert sent(connection.tick(241.0, "n-2")) == ["reauth"]
    (again,) = connection.text(b'{"type":"auth","token":"t","proof":"p"}', 242.0)
    assert isinstance(again, Authenticate)
    assert (again.nonce, again.again_as) == ("n-2", TICKET_HOLDER)
    assert sent(connection.authenticated(TOKEN_HOLDER, 300.0, 242.0)) == ["reauthed"]
    assert connection.next_check_s() == 482.0


def test_unanswered_it_ends_thirty_seconds_later() -> None:
    connection = opened()
    connection.tick(241.0, "n-2")
    assert connection.tick(270.9, "n-3") == []
    assert connection.tick(271.0, "n-3") == [End(Close.TOKEN_EXPIRED, "the token expired")]


def test_another_device_may_not_take_the_connection_over() -> None:
    connection = opened()
    connection.tick(241.0, "n-2")
    connection.text(b'{"type":"auth","token":"t","proof":"p"}', 242.0)
    other = Principal("usr_1", DEFAULT_DEVICE_SCOPES, "dev_2", 1, "thumb", 601_000)
    (end,) = connection.authenticated(other, 300.0, 242.0)
    assert isinstance(end, End)
    assert end.code is Close.BAD_CREDENTIALS


def test_credentials_with_the_same_end_are_asked_for_once() -> None:
    connection = opened(50.0)
    assert sent(connection.tick(1.0, "n-2")) == ["reauth"]
    connection.text(b'{"type":"auth","api_key":"k"}', 2.0)
    assert sent(connection.authenticated(TICKET_HOLDER, 49.001, 2.0)) == ["reauthed"]
    assert connection.tick(2.1, "n-3") == []
    assert connection.next_check_s() == 2.0 + 49.001
    assert connection.tick(51.1, "n-3") == [End(Close.TOKEN_EXPIRED, "the token expired")]
