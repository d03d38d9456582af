"""The state machine of one connection: frames, answers and time in, effects out."""

import json
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from entobot.core.ids import ulid
from entobot.core.permissions import ALL_SCOPES, Scope
from entobot.core.principal import Principal
from entobot.gateway.connection import (
    Acknowledge,
    Authenticate,
    Connection,
    Effect,
    End,
    Execute,
    Join,
    Pace,
    Pair,
    Send,
    SendPing,
    State,
)
from entobot.gateway.wire import Close
from tests.support.gateway import device, frame

START_S = 1000.0
NEVER_S = 10.0**8
PHONE = device("dev_1")


def new_connection(**pace: Any) -> Connection:
    return Connection(nonce="n-1", now_s=START_S, pace=Pace(**pace))


def ready_connection(expires_in_s: float = NEVER_S, **pace: Any) -> Connection:
    """Authenticated and joined at START_S."""
    connection = new_connection(**pace)
    connection.text(frame("auth", api_key="k"), START_S)
    connection.authenticated(PHONE, expires_in_s, START_S)
    connection.joined()
    return connection


def command_id(n: int) -> str:
    return ulid(1, n.to_bytes(10, "big"))


def command(n: int, name: str = "a", **data: Any) -> bytes:
    return frame("command", id=command_id(n), name=name, data=data)


def sent(effects: list[Effect]) -> list[dict[str, Any]]:
    return [json.loads(effect.payload) for effect in effects if isinstance(effect, Send)]


def ended(effects: list[Effect]) -> Close | None:
    codes = [effect.code for effect in effects if isinstance(effect, End)]
    return codes[0] if codes else None


# -- before authentication


def test_the_first_frame_is_verified_against_the_nonce_of_hello() -> None:
    (effect,) = new_connection().text(frame("auth", api_key="k"), START_S)
    assert isinstance(effect, Authenticate)
    assert (effect.nonce, effect.again_as) == ("n-1", None)


@pytest.mark.parametrize(
    "payload", [b"{", frame("ping"), frame("ack", seq=0), command(1), frame("auth"), frame("auth", token="t")]
)
def test_any_other_first_frame_is_a_protocol_error(payload: bytes) -> None:
    assert new_connection().text(payload, START_S) == [End(Close.PROTOCOL_ERROR, "the first frame must be auth")]


def test_one_frame_before_authentication_and_no_second() -> None:
    connection = new_connection()
    connection.text(frame("auth", api_key="k"), START_S)
    assert ended(connection.text(frame("ping"), START_S)) is Close.PROTOCOL_ERROR


@pytest.mark.parametrize("payload", [command(1), frame("ping"), frame("ack", seq=0), frame("auth", api_key="k")])
def test_no_frame_is_taken_between_authentication_and_ready(payload: bytes) -> None:
    connection = new_connection()
    connection.text(frame("auth", api_key="k"), START_S)
    assert [type(effect) for effect in connection.authenticated(PHONE, NEVER_S, START_S)] == [Join]
    assert ended(connection.text(payload, START_S)) is Close.PROTOCOL_ERROR


def test_a_refusal_ends_with_the_code_it_names() -> None:
    connection = new_connection()
    connection.text(frame("auth", api_key="k"), START_S)
    assert connection.refused(Close.SUSPENDED, "suspended") == [End(Close.SUSPENDED, "suspended")]


def test_binary_and_oversized_frames_end_with_their_own_codes() -> None:
    assert ended(new_connection().binary()) is Close.PROTOCOL_ERROR
    assert ended(ready_connection().binary()) is Close.PROTOCOL_ERROR
    assert ended(new_connection().too_large()) is Close.FRAME_TOO_LARGE
    assert ended(ready_connection().too_large()) is Close.FRAME_TOO_LARGE


def test_who_sends_nothing_for_five_seconds_is_let_go_and_may_come_back() -> None:
    connection = new_connection()
    assert connection.next_check_s() == START_S + 5
    assert connection.tick(START_S + 4.99, "n-2") == []
    assert ended(connection.tick(START_S + 5, "n-2")) is Close.SILENCE


def test_a_gateway_that_is_slow_to_authenticate_asks_to_come_back_and_blames_nobody() -> None:
    connection = new_connection()
    connection.text(frame("auth", api_key="k"), START_S + 4)
    assert connection.tick(START_S + 4.99, "n-2") == []
    assert ended(connection.tick(START_S + 5, "n-2")) is Close.DRAINING
    assert connection.authenticated(PHONE, NEVER_S, START_S + 5.1) == []


# -- frames


def test_acks_and_pings_of_a_ready_client() -> None:
    connection = ready_connection()
    assert connection.text(frame("ack", seq=5), START_S) == [Acknowledge(5)]
    assert sent(connection.text(frame("ping"), START_S)) == [{"type": "pong"}]


@pytest.mark.parametrize("payload", [b"", b"[]", b'{"type":"x"}', b'{"type":"ping","x":1}', b"\xff"])
def test_what_is_no_frame_ends_a_ready_connection(payload: bytes) -> None:
    assert ended(ready_connection().text(payload, START_S)) is Close.PROTOCOL_ERROR


def test_a_command_acts_for_the_authenticated_principal() -> None:
    (effect,) = ready_connection().text(command(1, x=2), START_S)
    assert isinstance(effect, Execute)
    assert effect.principal is PHONE
    assert json.loads(bytes(effect.frame.data)) == {"x": 2}


def test_a_command_id_is_a_ulid() -> None:
    for wrong in ("I" * 26, "8" + "0" * 25, "0" * 25 + "l", "é" * 26):
        assert ended(ready_connection().text(frame("command", id=wrong, name="a"), START_S)) is Close.PROTOCOL_ERROR


def test_a_command_repeated_before_its_answer_is_answered_once() -> None:
    connection = ready_connection()
    (first,) = connection.text(command(1, x=1), START_S)
    assert isinstance(first, Execute)
    assert connection.text(command(1, x=1), START_S) == []
    assert connection.executed(first.frame, b"{}") == [Send(b"{}")]
    assert isinstance(connection.text(command(1, x=1), START_S)[0], Execute)


def test_other_data_under_an_id_in_flight_is_not_swallowed_as_a_repetition() -> None:
    connection = ready_connection()
    connection.text(command(1, x=1), START_S)
    for other in (command(1, x=2), command(1, "b", x=1)):
        assert [type(effect) for effect in connection.text(other, START_S)] == [Execute]


def test_at_most_so_many_commands_wait_for_their_result() -> None:
    connection = ready_connection(max_commands_in_flight=3)
    taken = [connection.text(command(n), START_S)[0] for n in range(3)]
    for refused in (command(3), command(2, x="other data")):
        (busy,) = sent(connection.text(refused, START_S))
        assert (busy["type"], busy["code"], busy["retry"], busy["retry_after_s"]) == ("error", "rate_limited", True, 1)
    assert isinstance(taken[0], Execute)
    connection.executed(taken[0].frame, b"{}")
    assert isinstance(connection.text(command(3), START_S)[0], Execute)


def test_an_answer_after_the_end_is_dropped() -> None:
    connection = ready_connection()
    (effect,) = connection.text(command(1), START_S)
    assert isinstance(effect, Execute)
    connection.end(Close.REVOKED, "revoked")
    assert connection.executed(effect.frame, b"{}") == []


# -- time


def test_a_ping_goes_out_every_thirty_seconds() -> None:
    connection = ready_connection()
    assert connection.next_check_s() == START_S + 30
    assert connection.tick(START_S + 29.9, "n") == []
    assert connection.tick(START_S + 30, "n") == [SendPing()]
    assert connection.next_check_s() == START_S + 60


def test_seventy_five_seconds_of_silence_end_it() -> None:
    connection = ready_connection()
    connection.heard(START_S + 10)
    assert ended(connection.tick(START_S + 84.9, "n")) is None
    connection.heard(START_S + 84.95)
    assert ended(connection.tick(START_S + 159.9, "n")) is None
    assert ended(connection.tick(START_S + 159.95, "n")) is Close.SILENCE


@pytest.mark.parametrize("life", [frame("ping"), frame("ack", seq=1), command(1)])
def test_any_frame_is_life(life: bytes) -> None:
    connection = ready_connection()
    connection.text(life, START_S + 74)
    assert ended(connection.tick(START_S + 148.9, "n")) is None


def test_a_reauth_is_asked_for_sixty_seconds_before_the_end_with_a_fresh_nonce() -> None:
    connection = ready_connection(300)
    connection.heard(START_S + 239)
    assert sent(connection.tick(START_S + 239.9, "n-2")) == []
    assert sent(connection.tick(START_S + 240, "n-2")) == [{"type": "reauth", "nonce": "n-2"}]
    assert connection.next_check_s() <= START_S + 270
    (effect,) = connection.text(frame("auth", token="t", proof="p"), START_S + 241)
    assert isinstance(effect, Authenticate)
    assert (effect.nonce, effect.again_as) == ("n-2", PHONE)
    (answer,) = sent(connection.authenticated(PHONE, 300, START_S + 242))
    assert answer == {"type": "reauthed", "expires_in": 300}
    connection.heard(START_S + 480)
    assert ended(connection.tick(START_S + 481, "n-3")) is None
    assert sent(connection.tick(START_S + 482, "n-3")) == [{"type": "reauth", "nonce": "n-3"}]


def test_thirty_seconds_without_an_answer_to_reauth_end_it() -> None:
    connection = ready_connection(300)
    connection.heard(START_S + 240)
    connection.tick(START_S + 240, "n-2")
    connection.text(frame("ping"), START_S + 269)
    assert ended(connection.tick(START_S + 269.9, "n")) is None
    assert ended(connection.tick(START_S + 270, "n")) is Close.TOKEN_EXPIRED


def test_an_answer_that_is_still_being_verified_does_not_prolong_it() -> None:
    connection = ready_connection(300)
    connection.heard(START_S + 240)
    connection.tick(START_S + 240, "n-2")
    connection.text(frame("auth", token="t", proof="p"), START_S + 269)
    assert ended(connection.tick(START_S + 270, "n")) is Close.TOKEN_EXPIRED


def test_the_token_ends_when_it_says_even_if_nobody_was_asked() -> None:
    connection = ready_connection(10)
    connection.tick(START_S + 5, "n-2")
    assert ended(connection.tick(START_S + 9.9, "n")) is None
    assert ended(connection.tick(START_S + 10, "n")) is Close.TOKEN_EXPIRED


def test_a_token_can_end_while_joining() -> None:
    connection = new_connection()
    connection.text(frame("auth", token="t", proof="p"), START_S)
    connection.authenticated(PHONE, 10, START_S)
    assert connection.next_check_s() == START_S + 10
    assert ended(connection.tick(START_S + 10, "n")) is Close.TOKEN_EXPIRED


def test_commands_go_on_while_a_reauth_is_open() -> None:
    connection = ready_connection(300)
    connection.tick(START_S + 240 - 175, "n")
    connection.heard(START_S + 239)
    connection.tick(START_S + 240, "n-2")
    assert isinstance(connection.text(command(1), START_S + 241)[0], Execute)
    connection.text(frame("auth", token="t", proof="p"), START_S + 241)
    assert isinstance(connection.text(command(2), START_S + 242)[0], Execute)


OTHERS = [
    Principal("usr_2", ALL_SCOPES, device_id="dev_1", key_thumbprint="jkt-dev_1"),
    Principal("usr_1", ALL_SCOPES, device_id="dev_2", key_thumbprint="jkt-dev_1"),
    Principal("usr_1", ALL_SCOPES, device_id="dev_1", key_thumbprint="jkt-other"),
    Principal("usr_1", ALL_SCOPES, device_id=None, key_thumbprint="jkt-dev_1"),
    Principal("usr_1", ALL_SCOPES, device_id="dev_1", key_thumbprint=None),
]


@pytest.mark.parametrize("other", OTHERS)
def test_reauthenticating_as_somebody_else_ends_it(other: Principal) -> None:
    connection = ready_connection(300)
    connection.heard(START_S + 240)
    connection.tick(START_S + 240, "n-2")
    connection.text(frame("auth", token="t", proof="p"), START_S + 241)
    assert ended(connection.authenticated(other, 300, START_S + 241)) is Close.BAD_CREDENTIALS
    assert connection.principal is PHONE


def test_reauthenticating_takes_over_narrower_scopes_and_a_new_epoch() -> None:
    connection = ready_connection(300)
    connection.heard(START_S + 240)
    connection.tick(START_S + 240, "n-2")
    connection.text(frame("auth", token="t", proof="p"), START_S + 241)
    narrower = device("dev_1", frozenset({Scope.NOTIFY}), epoch=2)
    connection.authenticated(narrower, 300, START_S + 241)
    (effect,) = connection.text(command(1), START_S + 242)
    assert isinstance(effect, Execute)
    assert effect.principal is narrower


@pytest.mark.parametrize("payload", [frame("auth", api_key="k"), frame("auth", token="t", proof="p")])
def test_auth_that_was_not_asked_for_is_a_protocol_error(payload: bytes) -> None:
    assert ended(ready_connection(300).text(payload, START_S + 1)) is Close.PROTOCOL_ERROR


def test_a_second_answer_to_one_reauth_and_a_malformed_one_are_protocol_errors() -> None:
    for answers in ([frame("auth", token="t", proof="p")] * 2, [frame("auth", token="t", api_key="k")]):
        connection = ready_connection(300)
        connection.heard(START_S + 240)
        connection.tick(START_S + 240, "n-2")
        effects = [effect for answer in answers for effect in connection.text(answer, START_S + 241)]
        assert ended(effects) is Close.PROTOCOL_ERROR


def test_expires_in_is_never_negative() -> None:
    connection = ready_connection(10)
    assert [connection.expires_in_s(START_S + later) for later in (0, 3.5, 20)] == [10, 6, 0]


# -- every interleaving


class AnyInterleaving(RuleBasedStateMachine):
    """Drives a connection the way a hostile client on a slow gateway would, and checks what may never happen."""

    @initialize()
    def open(self) -> None:
        self.now_s = START_S
        self.connection = new_connection(max_commands_in_flight=3)
        self.is_over = False
        self.joins = 0
        self.is_joined = False
        self.verifying: list[Authenticate] = []
        self.executing: list[Execute] = []
        self.last_heard_s = START_S
        self.expires_s = float("inf")
        self.asked_s: float | None = None

    def take(self, effects: list[Effect]) -> None:
        for n, effect in enumerate(effects):
            assert not self.is_over, "nothing follows an End"
            match effect:
                case End():
                    assert n == len(effects) - 1
                    self.is_over = True
                case Authenticate():
                    self.verifying.append(effect)
                    assert len(self.verifying) == 1, "one verification at a time"
                case Join():
                    self.joins += 1
                case Execute():
                    assert self.is_joined, "no command before ready"
                    self.executing.append(effect)
                    assert len(self.executing) <= 3
                case Acknowledge() | Pair():
                    assert self.is_joined
                case Send(payload):
                    assert self.is_joined
                    if json.loads(payload)["type"] == "reauth":
                        assert self.asked_s is None
                        assert self.now_s >= self.expires_s - 60
                        self.asked_s = self.now_s
                case SendPing():
                    assert self.joins

    payloads = st.one_of(
        st.builds(command, st.integers(0, 4), st.sampled_from(["a", "b"])),
        st.sampled_from(
            [
                frame("ping"),
                frame("ack", seq=3),
                frame("auth", api_key="k"),
                frame("auth", token="t", proof="p"),
                frame("auth", token="t"),
                b"{}",
                b"\xff",
            ]
        ),
    )

    @rule(payload=payloads)
    def says(self, payload: bytes) -> None:
        if not self.is_over:
            self.last_heard_s = self.now_s
        self.take(self.connection.text(payload, self.now_s))

    @precondition(lambda self: self.verifying)
    @rule(lasts_s=st.sampled_from([0.0, 30.0, 61.0, 300.0]), is_other=st.booleans())
    def is_authenticated(self, lasts_s: float, is_other: bool) -> None:
        self.verifying.pop()
        was_over, first = self.is_over, self.connection.principal is None
        who = device("dev_2") if is_other else PHONE
        self.take(self.connection.authenticated(who, lasts_s, self.now_s))
        if was_over:
            return
        if first:
            self.expires_s = self.now_s + lasts_s
        elif self.connection.principal != who:
            assert self.is_over
        else:
            self.expires_s, self.asked_s = self.now_s + lasts_s, None

    @precondition(lambda self: self.verifying)
    @rule(code=st.sampled_from([Close.BAD_CREDENTIALS, Close.TOKEN_EXPIRED, Close.REVOKED]))
    def is_refused(self, code: Close) -> None:
        self.verifying.pop()
        self.take(self.connection.refused(code, "no"))
        assert self.is_over

    @precondition(lambda self: self.joins and not self.is_joined and not self.is_over)
    @rule()
    def has_joined(self) -> None:
        self.connection.joined()
        self.is_joined = True

    @precondition(lambda self: self.executing)
    @rule(data=st.data())
    def is_executed(self, data: st.DataObject) -> None:
        effect = self.executing.pop(data.draw(st.integers(0, len(self.executing) - 1)))
        answers = sent(self.connection.executed(effect.frame, frame("result", id=effect.frame.id)))
        assert [answer["id"] for answer in answers] == ([] if self.is_over else [effect.frame.id])

    @rule(code=st.sampled_from([Close.DRAINING, Close.REVOKED, Close.SLOW_CONSUMER]))
    def is_ended_from_outside(self, code: Close) -> None:
        self.take(self.connection.end(code, "outside"))
        assert self.is_over

    @rule(seconds=st.sampled_from([0.5, 4.0, 5.0, 29.0, 31.0, 75.0]))
    def time_passes(self, seconds: float) -> None:
        """The driver ticks whenever `next_check_s` says so, and once more at the end."""
        end_s = self.now_s + seconds
        while not self.is_over and self.connection.next_check_s() <= end_s:
            before = self.now_s
            self.now_s = max(self.now_s, self.connection.next_check_s())
            effects = self.connection.tick(self.now_s, "n-x")
            assert effects or self.now_s > before, "a tick that is due either acts or time has passed"
            self.take(effects)
        self.now_s = end_s
        self.take(self.connection.tick(self.now_s, "n-x"))

    @invariant()
    def deadlines_hold(self) -> None:
        if self.is_over:
            assert self.connection.is_closed
            return
        if not self.joins:
            assert self.now_s < START_S + 5
            return
        assert self.now_s < self.last_heard_s + 75 or self.now_s == self.last_heard_s
        assert self.now_s <= self.expires_s
        if self.asked_s is not None:
            assert self.now_s <= self.asked_s + 30
        assert self.joins == 1


AnyInterleaving.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestAnyInterleaving = AnyInterleaving.TestCase


def test_a_lost_link_is_closed() -> None:
    connection = ready_connection()
    connection.lost()
    assert connection.state is State.CLOSED
    assert connection.text(frame("ping"), START_S) == []
    assert connection.tick(START_S + 100, "n") == []
