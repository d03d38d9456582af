"""Frames of entobot.v1: what is taken, what is refused, what is written."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entobot.core.errors import Code, Problem
from entobot.core.permissions import Scope
from entobot.gateway import wire
from entobot.gateway.wire import Ack, Auth, CommandFrame, MalformedFrame, Ping, Resume

ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def test_every_client_frame_is_read_as_what_it_says() -> None:
    auth = wire.decode(b'{"type":"auth","token":"t","proof":"p","resume":{"stream":"str_1","after":7}}')
    assert auth == Auth(token="t", proof="p", resume=Resume("str_1", 7))
    assert wire.decode(b'{"type":"ack","seq":9}') == Ack(9)
    assert wire.decode(b'{"type":"ping"}') == Ping()
    command = wire.decode(f'{{"type":"command","id":"{ULID}","name":"a.b","data":{{"x":1}}}}'.encode())
    assert isinstance(command, CommandFrame)
    assert (command.id, command.name, bytes(command.data)) == (ULID, "a.b", b'{"x":1}')


def test_a_command_without_data_has_an_empty_object() -> None:
    command = wire.decode(f'{{"type":"command","id":"{ULID}","name":"a"}}'.encode())
    assert isinstance(command, CommandFrame)
    assert bytes(command.data) == b"{}"


REPEATED = [
    '{"type":"ping","type":"ping"}',
    '{"type":"ack","seq":1,"seq":2}',
    '{"type":"ack","seq":1,"seq" \n:2}',
    '{"type":"ack","seq":1,"s\\u0065q":2}',
    f'{{"type":"command","id":"{ULID}","id":"{ULID}","name":"a"}}',
    f'{{"type":"command","id":"{ULID}","name":"a","data":{{}},"data":{{}}}}',
    f'{{"type":"command","id":"{ULID}","name":"a","data":{{"x":1,"x":2}}}}',
    f'{{"type":"command","id":"{ULID}","name":"a","data":{{"x":[{{"y":1,"z":2,"y":3}}]}}}}',
    '{"type":"auth","api_key":"k","api_key":"k"}',
    '{"type":"auth","api_key":"k","resume":{"stream":"s","after":1,"after":2}}',
]


@pytest.mark.parametrize("text", REPEATED)
def test_a_member_that_is_named_twice_is_refused(text: str) -> None:
    with pytest.raises(MalformedFrame):
        wire.decode(text.encode())
    if "auth" in text:
        with pytest.raises(MalformedFrame):
            wire.decode_auth(text.encode())


@pytest.mark.parametrize(
    "data",
    [
        '{"name":"a","id":"b","type":{"type":1}}',
        '{"content":"\\"content\\": twice? no: a text"}',
        '[{"x":1},{"x":1}]',
        '{"content":"10:30, see https://example.org"}',
    ],
)
def test_the_same_name_in_other_objects_and_in_texts_is_no_repetition(data: str) -> None:
    frame = wire.decode(f'{{"type":"command","id":"{ULID}","name":"a","data":{data}}}'.encode())
    assert isinstance(frame, CommandFrame)
    assert bytes(frame.data).decode() == data


MALFORMED: list[bytes] = [
    b"",
    b"null",
    b"[]",
    b"1",
    b'"ping"',
    b"{}",
    b'{"type":"ping"} ,',
    b'{"type":"ping"}{"type":"ping"}',
    b'\xef\xbb\xbf{"type":"ping"}',
    b'{"type":"pong"}',
    b'{"type":"Ping"}',
    b'{"type":1}',
    b'{"type":null}',
    b'{"type":"\xff"}',
    b'{"\xff":1,"type":"ping"}',
    b'{"type":"\\ud800"}',
    b'{"type":"ping","extra":1}',
    b'{"type":"ack"}',
    b'{"type":"ack","seq":-1}',
    b'{"type":"ack","seq":1.0}',
    b'{"type":"ack","seq":true}',
    b'{"type":"ack","seq":"1"}',
    b'{"type":"ack","seq":9007199254740993}',
    b'{"type":"ack","seq":1e400}',
    b'{"type":"ack","seq":NaN}',
    b'{"type":"ack","seq":1,"more":2}',
    b'{"type":"command"}',
    b'{"type":"command","id":"short","name":"a"}',
    b'{"type":"command","id":"01ARZ3NDEKTSV4RRFFQ69G5FAVX","name":"a"}',
    b'{"type":"command","id":"01ARZ3NDEKTSV4RRFFQ69G5FAV"}',
    b'{"type":"command","id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","name":"' + b"n" * 65 + b'"}',
    b'{"type":"command","id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","name":"\xff"}',
    b'{"type":"command","id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","name":"a","data":{"x":}}',
    b'{"type":"command","id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","name":"a","user_id":"usr_other"}',
    b'{"type":"command","id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","name":"a","data":' + b"[" * 100_000 + b"}",
    b'{"type":"auth","resume":{"stream":"' + b"s" * 65 + b'","after":1}}',
    b'{"type":"auth","resume":{"stream":"s","after":-1}}',
    b'{"type":"auth","resume":{"stream":"s"}}',
    b'{"type":"auth","resume":[]}',
    b'{"type":"auth","device_id":"dev_other"}',
]


@pytest.mark.parametrize("payload", MALFORMED, ids=lambda payload: repr(payload[:40]))
def test_a_malformed_frame_is_refused_before_and_after_authentication(payload: bytes) -> None:
    for read in (wire.decode, wire.decode_auth):
        with pytest.raises(MalformedFrame):
            read(payload)


def test_bytes_that_are_not_utf8_are_a_malformed_frame_and_no_crash() -> None:
    for payload in (b'{"type":"auth","api_key":"\xff"}', b'{"type":"auth","api_key":"\xed\xa0\x80"}'):
        with pytest.raises(MalformedFrame):
            wire.decode_auth(payload)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(payload: bytes) -> None:
    for read in (wire.decode, wire.decode_auth):
        with contextlib.suppress(MalformedFrame):
            read(payload)


KEYS = st.sampled_from(["type", "id", "name", "data", "seq", "token", "proof", "api_key", "ticket", "resume", "x"])
VALUES = st.sampled_from(
    [
        "auth",
        "ack",
        "ping",
        "command",
        ULID,
        "",
        0,
        -1,
        2**53,
        2**64,
        1.5,
        None,
        True,
        [],
        {},
        {"stream": "s", "after": 1},
    ]
)


@given(st.dictionaries(KEYS, VALUES, max_size=6), st.sampled_from(["auth", "ack", "ping", "command", "other"]))
def test_no_json_raises_anything_else_and_what_is_read_is_one_of_the_four(members: dict[str, Any], kind: str) -> None:
    payload = json.dumps(members | {"type": kind}).encode()
    for read in (wire.decode, wire.decode_auth):
        try:
            found = read(payload)
        except MalformedFrame:
            continue
        assert isinstance(found, Auth | CommandFrame | Ack | Ping)
        assert set(members) <= {"type", "id", "name", "data", "seq", "token", "proof", "api_key", "ticket", "resume"}


@given(json_values)
def test_any_data_reaches_the_command_as_it_was_sent(value: Any) -> None:
    text = json.dumps(value).encode()
    found = wire.decode(b'{"type":"command","id":"' + ULID.encode() + b'","name":"a","data":' + text + b"}")
    assert isinstance(found, CommandFrame)
    assert json.loads(bytes(found.data)) == value


CREDENTIALS = ("token", "proof", "api_key", "ticket")
GOOD = [{"token", "proof"}, {"api_key"}, {"ticket"}]


@pytest.mark.parametrize("bits", range(16))
def test_auth_takes_exactly_one_kind_of_credential(bits: int) -> None:
    present = {name for n, name in enumerate(CREDENTIALS) if bits >> n & 1}
    payload = json.dumps({"type": "auth"} | dict.fromkeys(present, "v")).encode()
    if present in GOOD:
        assert wire.decode_auth(payload).is_well_formed
    else:
        with pytest.raises(MalformedFrame):
            wire.decode_auth(payload)


@pytest.mark.parametrize("empty", [{"api_key": ""}, {"token": "", "proof": "p"}, {"token": "t", "proof": ""}])
def test_an_empty_credential_is_none(empty: dict[str, str]) -> None:
    with pytest.raises(MalformedFrame):
        wire.decode_auth(json.dumps({"type": "auth"} | empty).encode())


# -- what the gateway sends


def test_what_the_gateway_sends_has_the_shapes_of_the_protocol() -> None:
    scopes = frozenset({Scope.CHAT, Scope.APPROVE})
    problem = Problem(Code.RATE_LIMITED, "Wait.", retry_after_s=1.5)
    for made, expected in [
        (
            wire.hello(nonce="n", server="entobot/0.1", now_ms=5, heartbeat_s=30),
            {"type": "hello", "nonce": "n", "server": "entobot/0.1", "ts": 5, "heartbeat_s": 30},
        ),
        (
            wire.ready(device_id="dev_1", user_id="usr_1", scopes=scopes, stream="str_1", seq=4, expires_in_s=300),
            {
                "type": "ready",
                "device_id": "dev_1",
                "user_id": "usr_1",
                "scopes": ["approve", "chat"],
                "stream": "str_1",
                "seq": 4,
                "expires_in": 300,
            },
        ),
        (wire.reauth("n2"), {"type": "reauth", "nonce": "n2"}),
        (wire.reauthed(300), {"type": "reauthed", "expires_in": 300}),
        (wire.reset("expired"), {"type": "reset", "reason": "expired"}),
        (wire.resume_done(8), {"type": "resume_done", "seq": 8}),
        (wire.PONG, {"type": "pong"}),
        (wire.result("i", b'{"a":[1]}'), {"type": "result", "id": "i", "data": {"a": [1]}}),
        (wire.command_answer("i", b'{"a":1}'), {"id": "i", "data": {"a": 1}}),
        (
            wire.error(problem, "i"),
            {
                "type": "error",
                "id": "i",
                "code": "rate_limited",
                "message": "Wait.",
                "retry": True,
                "retry_after_s": 1.5,
            },
        ),
        (
            wire.error(Problem(Code.INVALID, "No.")),
            {"type": "error", "code": "invalid", "message": "No.", "retry": False},
        ),
        (
            wire.event(at_ms=3, topic="t", event_json='{"type":"x"}', seq=2),
            {"type": "event", "ts": 3, "topic": "t", "event": {"type": "x"}, "seq": 2},
        ),
        (
            wire.event(at_ms=3, topic="t", event_json='{"type":"x"}'),
            {"type": "event", "ts": 3, "topic": "t", "event": {"type": "x"}},
        ),
    ]:
        assert json.loads(made) == expected


row = st.builds(lambda key, size: {"id": key, "text": "ü" * size}, st.integers(0, 999), st.integers(0, 1500))


@given(st.lists(row, max_size=30), st.lists(row, max_size=10), st.integers(0, 10**6))
def test_snapshot_pages_stay_under_the_cap_and_lose_nothing(first: list[Any], second: list[Any], unread: int) -> None:
    cap = 4096 + 1024
    pages = wire.snapshots(12, {"conversations": first, "pending_approvals": second, "unread": unread}, max_bytes=cap)
    assert all(len(page) <= cap for page in pages)
    read = [json.loads(page) for page in pages]
    assert [page.get("more", False) for page in read] == [True] * (len(read) - 1) + [False]
    assert {(page["type"], page["seq"], page["unread"]) for page in read} == {("snapshot", 12, unread)}
    assert [one for page in read for one in page["conversations"]] == first
    assert [one for page in read for one in page["pending_approvals"]] == second


def test_an_empty_snapshot_is_one_page() -> None:
    (page,) = wire.snapshots(0, {"conversations": [], "unread": 0}, max_bytes=5000)
    assert json.loads(page) == {"type": "snapshot", "seq": 0, "conversations": [], "unread": 0}


def test_a_row_over_the_cap_stands_alone() -> None:
    big = {"text": "x" * 9000}
    pages = wire.snapshots(1, {"rows": [{"a": 1}, big, {"b": 2}]}, max_bytes=4096)
    assert [json.loads(page)["rows"] for page in pages] == [[{"a": 1}], [big], [{"b": 2}]]
