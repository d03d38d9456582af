"""What the posture says of pushes: nothing where they work, what to do where they cannot."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from entobot.app.posture_push import push_points
from entobot.app.weak_points import Grade, WeakPoint
from entobot.config import Settings
from entobot.notifications.model import Channel

PUBLIC = "https://gate.example"


def points(
    origin: str = PUBLIC,
    *,
    own_authority: bool | None = False,
    trouble: dict[Channel, str] | None = None,
    **sections: Any,
) -> list[WeakPoint]:
    """`own_authority` None: no certificate."""
    certificate = None
    if own_authority is not None:
        certificate = SimpleNamespace(public=SimpleNamespace(ca_crt=b"ca" if own_authority else None))
    gateway = SimpleNamespace(
        certificates=SimpleNamespace(served=certificate),
        ground=SimpleNamespace(origin=origin, settings=Settings.model_validate(sections)),
        notifying=SimpleNamespace(trouble=lambda channel: (trouble or {}).get(channel, "")),
    )
    return list(push_points(cast("Any", gateway)))


def test_nothing_is_said_where_pushes_can_work() -> None:
    assert points() == []
    assert points("https://192.168.1.7:18790", notifications={"contact": "mailto:ada@example.org"}) == []


def test_an_own_authority_and_plain_http_keep_browsers_from_subscribing() -> None:
    (own,) = points(own_authority=True)
    assert "own certificate authority" in own.what
    assert "certificate that every browser trusts" in own.fix
    (plain,) = points("http://gate.example", own_authority=None)
    assert "plain HTTP" in plain.what


def test_behind_a_proxy_that_ends_tls_browsers_subscribe() -> None:
    assert points(own_authority=None, gateway={"trusted_proxies": ["127.0.0.1"]}) == []


@pytest.mark.parametrize("origin", ["https://192.168.1.7:18790", "https://gate.local"])
def test_a_contact_that_nobody_can_reach_is_told_with_the_setting(origin: str) -> None:
    (point,) = points(origin)
    assert origin in point.what
    assert "notifications.contact" in point.fix


@pytest.mark.parametrize("channel", [Channel.PUSH, Channel.NTFY, Channel.UNIFIEDPUSH])
def test_a_channel_that_fails_says_why(channel: Channel) -> None:
    (point,) = points(trouble={channel: "the service said 403"})
    assert (point.grade, channel in point.what, "said 403" in point.what) == (Grade.WARN, True, True)
