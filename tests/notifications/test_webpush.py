"""Web Push against a push service that decrypts with the reference implementation, and what it may answer."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entobot.core.networks import Networks
from entobot.core.secrets import SystemEntropy
from entobot.notifications.channel import Outcome, Parcel
from entobot.notifications.model import Channel, Place, Priority
from entobot.notifications.push_webpush import WebPushOutlet, payload
from entobot.notifications.webpush import MAX_PLAIN_BYTES, SIZES, KeysRefused, VapidKey, check_keys, encrypt
from entobot.outgoing import guarded_http
from entobot.outgoing.guarded_http import GuardedHttp
from tests.support.push_service import PushService, Subscriber, b64u, unb64u
from tests.support.time import ManualClock

CLOCK = ManualClock()
KEY = VapidKey(bytes(32))
BROWSER = Subscriber()
HERE = Networks(["127.0.0.0/8"])


def refuse_tls() -> None:
    raise AssertionError("plain http asks for no TLS")


@pytest.fixture
async def service() -> AsyncIterator[PushService]:
    service = await PushService().start()
    yield service
    await service.stop()


def outlet(allowed: Networks = HERE, lookup: guarded_http.Lookup = guarded_http.look_up) -> WebPushOutlet:
    import ssl

    http = GuardedHttp(allowed, ssl.create_default_context, lookup)
    return WebPushOutlet(Channel.PUSH, http, KEY, "mailto:ops@example.org", CLOCK, SystemEntropy())


def parcel(address: str, **more: object) -> Parcel:
    keys = BROWSER.keys()
    place = Place("npl_1", "usr_1", Channel.PUSH, address, "dev_1", keys["p256dh"], keys["auth"], "", True, 0)
    made = Parcel(
        parcel_id="nat_1",
        notification_id="ntf_1",
        kind="message",
        priority=Priority.HIGH,
        title="Dinner",
        body="Größe 🍲",
        path="/chat/cnv_1",
        url="https://gate.example/chat/cnv_1",
        tag="a" * 32,
        made_at_ms=0,
        ttl_s=60,
        unread=3,
        gateway="Kitchen",
        place=place,
    )
    return replace(made, **more)  # pyright: ignore[reportArgumentType]  names of fields


async def test_what_is_pushed_is_decrypted_by_the_reference_and_signed_by_the_gateway(service: PushService) -> None:
    assert (await outlet().send(parcel(f"{service.origin}/push/one?x=1"))).outcome is Outcome.ACCEPTED
    push = service.pushes[0]
    said = BROWSER.open(push.body)
    assert said["web_push"] == 8030
    assert said["notification"]["title"] == "Dinner"
    assert said["notification"]["body"] == "Größe 🍲"
    assert said["notification"]["navigate"] == "https://gate.example/chat/cnv_1"
    assert said["app_badge"] == 3
    assert said["entobot"]["path"] == "/chat/cnv_1"
    assert push.path == "/push/one?x=1"
    assert push.headers["content-encoding"] == "aes128gcm"
    assert (push.headers["ttl"], push.headers["urgency"], push.headers["topic"]) == ("60", "high", "a" * 32)
    claims = push.claims()
    assert (claims["aud"], claims["sub"], claims["k"]) == (service.origin, "mailto:ops@example.org", KEY.public)
    assert 0 < claims["exp"] - CLOCK.now_ms() // 1000 <= 24 * 3600
    assert push.headers["host"] == f"127.0.0.1:{service.port}"


async def test_one_signature_serves_many_pushes_and_no_two_bodies_are_alike(service: PushService) -> None:
    at = outlet()
    for _ in range(3):
        await at.send(parcel(f"{service.origin}/push"))
    assert len({push.headers["authorization"] for push in service.pushes}) == 1
    assert len({push.body for push in service.pushes}) == 3


@pytest.mark.parametrize(
    ("status", "headers", "outcome", "after_s"),
    [
        (201, {}, Outcome.ACCEPTED, None),
        (202, {}, Outcome.ACCEPTED, None),
        (404, {}, Outcome.GONE, None),
        (410, {}, Outcome.GONE, None),
        (413, {}, Outcome.REFUSED, None),
        (429, {"retry-after": "120"}, Outcome.LATER, 120.0),
        (429, {"retry-after": "soon"}, Outcome.LATER, None),
        (429, {"retry-after": "999999999"}, Outcome.LATER, 6 * 3600.0),
        (500, {}, Outcome.LATER, None),
        (503, {"retry-after": "5"}, Outcome.LATER, 5.0),
        (400, {}, Outcome.REFUSED, None),
        (403, {}, Outcome.REFUSED, None),
        (301, {"location": "http://127.0.0.1:1/"}, Outcome.REFUSED, None),
    ],
)
async def test_every_answer_means_something(
    service: PushService, status: int, headers: dict[str, str], outcome: Outcome, after_s: float | None
) -> None:
    service.answers = [(status, headers)]
    answer = await outlet().send(parcel(f"{service.origin}/push"))
    assert (answer.outcome, answer.after_s) == (outcome, after_s)
    assert bool(answer.reason) == (outcome is not Outcome.ACCEPTED)
    assert len(service.pushes) == 1, "redirects are not followed"


async def test_a_service_that_says_nothing_is_left_after_a_while(
    service: PushService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded_http, "TIMEOUT_S", 0.2)
    service.is_mute = True
    assert (await outlet().send(parcel(f"{service.origin}/push"))).outcome is Outcome.LATER


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "168.63.129.16",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "fd00:ec2::254",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
        "fec0::1",
        "ff02::1",
    ],
)
async def test_no_name_leads_inside(address: str) -> None:
    at = outlet(Networks(), lambda host, port: [address])
    answer = await at.send(parcel("https://push.example/one"))
    assert answer.outcome is Outcome.REFUSED
    assert "not public" in answer.reason
    assert address not in answer.reason


async def test_one_address_inside_among_good_ones_is_enough_to_refuse() -> None:
    at = outlet(Networks(), lambda host, port: ["93.184.216.34", "10.0.0.1"])
    assert (await at.send(parcel("https://push.example/one"))).outcome is Outcome.REFUSED


async def test_a_name_that_leads_elsewhere_a_moment_later_changes_nothing(service: PushService) -> None:
    """The name is looked up once, and what was judged is what is connected to."""
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    answer = await outlet(HERE, rebinding).send(parcel(f"http://push.example:{service.port}/one"))
    assert (answer.outcome, asked) == (Outcome.ACCEPTED, ["push.example"])
    assert service.pushes[0].headers["host"] == f"push.example:{service.port}"


async def test_plain_http_is_for_allowed_loopback_only() -> None:
    at = outlet(Networks(["10.0.0.0/8"]), lambda host, port: ["10.0.0.1"])
    answer = await at.send(parcel("http://push.example/one"))
    assert (answer.outcome, "plain http" in answer.reason) == (Outcome.REFUSED, True)
    at = outlet(Networks(), lambda host, port: ["93.184.216.34"])
    assert (await at.send(parcel("http://push.example/one"))).outcome is Outcome.REFUSED


@pytest.mark.parametrize(
    "url", ["ftp://push.example/", "https://user@push.example/", "https:///one", "file:///etc/passwd"]
)
async def test_what_is_no_address_of_a_service_is_refused(url: str) -> None:
    assert (await outlet(HERE).send(parcel(url))).outcome is Outcome.REFUSED


@given(st.binary(max_size=MAX_PLAIN_BYTES))
def test_every_text_comes_out_as_it_went_in_and_its_length_is_hidden(text: bytes) -> None:
    import http_ece

    keys = BROWSER.keys()
    body = encrypt(text, keys["p256dh"], keys["auth"], SystemEntropy())
    assert http_ece.decrypt(body, private_key=BROWSER.key, auth_secret=BROWSER.auth, version="aes128gcm") == text
    assert len(body) in {86 + size + 17 for size in SIZES}
    assert len(body) <= 4096


def test_the_example_of_the_standard_can_be_opened_and_ours_have_its_form() -> None:
    """RFC 8291 §5: keys, salt and text are given there; an ephemeral key of our own choice changes the body."""
    example = (
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_"
        "yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )
    ours = encrypt(b"x", **_keys(), entropy=SystemEntropy())
    assert unb64u(example)[16:21] == ours[16:21] == b"\0\0\x10\0\x41"


def _keys() -> dict[str, str]:
    return BROWSER.keys()


@pytest.mark.parametrize(
    ("p256dh", "auth"),
    [
        ("", b64u(bytes(16))),
        (b64u(bytes(65)), b64u(bytes(16))),
        (b64u(b"\x04" + bytes(64)), b64u(bytes(16))),
        (b64u(BROWSER.point[:64]), b64u(bytes(16))),
        (b64u(BROWSER.point) + "=", b64u(bytes(16))),
        (b64u(BROWSER.point), b64u(bytes(15))),
        (b64u(BROWSER.point), ""),
        (b64u(BROWSER.point), "é"),
    ],
    ids=["no point", "zeros", "not on the curve", "short", "padded", "short secret", "no secret", "no base64url"],
)
def test_forged_keys_are_refused(p256dh: str, auth: str) -> None:
    with pytest.raises(KeysRefused):
        check_keys(p256dh, auth)


def test_the_gateways_key_is_the_same_after_a_restart_and_another_for_another_gateway() -> None:
    assert VapidKey(bytes(32)).public == KEY.public
    assert VapidKey(bytes(31) + b"\x01").public != KEY.public
    assert len(unb64u(KEY.public)) == 65


def test_a_long_text_is_shortened_until_it_fits() -> None:
    said = payload(parcel("https://push.example", body="🍲" * 2000, title="x" * 120))
    assert len(said) <= MAX_PLAIN_BYTES
    assert json.loads(said)["notification"]["body"].endswith("…")
