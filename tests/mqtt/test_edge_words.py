"""What is said to a nats-server about boards: signed as it reads it, and never more than the own subtree."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from entobot.core.secrets import b64u, unb64u
from entobot.core.topic_limits import NO_LIMITS, NOTHING, TopicLimits, clean_limits
from entobot.mqtt.edge_words import Asked, Entrant, Issuer, Unreadable, permissions, read_request, topic_of

ASKED = Asked("SERVER", "UABC", "mqtt", "dev_1", "192.0.2.7", "dev_1", "secret")
LEVELS = st.sampled_from(["telemetry", "a.b", "x y", "*", ">", "dev_2"]) | st.just("+")
FILTERS = st.builds(
    lambda own, rest, end: "/".join(("devices", own, *rest, *end)),
    st.sampled_from(["dev_1", "dev_2", "+", "{device_id}", "#"]),
    st.lists(LEVELS, max_size=3),
    st.sampled_from([(), ("#",)]),
)
KEPT = st.none() | st.lists(FILTERS, max_size=3).map(tuple)


@given(KEPT, KEPT)
def test_no_limits_lead_out_of_the_own_subtree(publish: tuple[str, ...], subscribe: tuple[str, ...]) -> None:
    found = permissions("dev_1", TopicLimits(publish, subscribe))
    said = [*found["pub"].get("allow", []), *found["sub"]["allow"]]
    assert all(one.split(".")[:2] == ["devices", "dev_1"] or one == "$MQTT.sub.>" for one in said)
    assert found["pub"].get("allow") != [], "to the server an empty list is everything"


def test_limits_are_subjects() -> None:
    assert permissions("dev_1", NO_LIMITS)["pub"]["allow"] == ["devices.dev_1", "devices.dev_1.>"]
    assert "devices.dev_1.command" in permissions("dev_1", NO_LIMITS)["pub"]["deny"]
    assert permissions("dev_1", NOTHING)["pub"] == {"deny": [">"]}
    found = permissions("dev_1", clean_limits(["telemetry/#", "a/+/b"], ["command", "devices/dev_2/#"]))
    assert found["pub"]["allow"] == ["devices.dev_1.a.*.b", "devices.dev_1.telemetry", "devices.dev_1.telemetry.>"]
    assert found["sub"]["allow"] == ["devices.dev_1.command", "$MQTT.sub.>"]


def claims(token: str, issuer: Issuer) -> dict[str, Any]:
    head, body, signature = token.split(".")
    raw = base64.b32decode(issuer.public + "=" * (-len(issuer.public) % 8))[1:33]
    Ed25519PublicKey.from_public_bytes(raw).verify(unb64u(signature), f"{head}.{body}".encode())
    return json.loads(unb64u(body))


def test_an_admission_names_the_server_the_user_and_the_end() -> None:
    issuer = Issuer(b"s" * 32)
    assert issuer.public.startswith("A")
    by = Entrant.of("dev_1", "key_1", NO_LIMITS)
    answer = claims(issuer.admission(ASKED, by, NO_LIMITS, "BOARDS", 200, 100).decode(), issuer)
    user = claims(answer["nats"]["jwt"], issuer)
    assert (answer["aud"], answer["sub"], user["sub"], user["aud"]) == ("SERVER", "UABC", "UABC", "BOARDS")
    assert (user["exp"], user["nats"]["allowed_connection_types"]) == (200, ["MQTT", "MQTT_WS"])
    assert Entrant.parse(user["name"]) == by, "the server shows it with the connection"
    refused = claims(issuer.refusal(ASKED, "no", 100).decode(), issuer)
    assert refused["nats"]["error"] == "no"
    assert "jwt" not in refused["nats"]


def test_other_limits_are_another_entrant() -> None:
    limits = (NO_LIMITS, NOTHING, TopicLimits(("a",), None), TopicLimits(None, ("a",)))
    assert len({Entrant.of("dev_1", "key_1", one).name for one in limits}) == len(limits)
    assert Entrant.parse("dev_1") == Entrant("dev_1", "", "")


@pytest.mark.parametrize("token", [b"", b"a.b.c", b"a." + b64u(b"{}").encode(), b"a." + b64u(b'{"nats": 1}').encode()])
def test_what_cannot_be_read_says_so(token: bytes) -> None:
    with pytest.raises(Unreadable):
        read_request(token)


@pytest.mark.parametrize(
    ("subject", "found"),
    [
        ("devices.dev_1.telemetry.t", ("dev_1", "telemetry/t")),
        ("devices.dev_1", None),
        ("devices.dev_1.a//b", None),
        ("devices.dev_1..x", None),
        ("other.dev_1.x", None),
    ],
)
def test_a_subject_is_a_topic_of_a_device(subject: str, found: tuple[str, str] | None) -> None:
    assert topic_of(subject) == found
