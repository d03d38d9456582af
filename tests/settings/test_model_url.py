import socket
from typing import Any

import pytest

from entobot.settings.model_url import check_resolved, check_url


@pytest.mark.parametrize(
    "url",
    ["", "http://127.0.0.1:11434/v1", "http://192.168.1.5:8000/v1", "https://models.example/v1", "http://[::1]:1/v1"],
)
def test_a_server_at_home_or_elsewhere_may_be_asked(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest",
        "http://[fe80::1]/v1",
        "http://[::ffff:169.254.169.254]/v1",
        "http://[64:ff9b::a9fe:a9fe]/v1",
        "http://[2002:a9fe:a9fe::]/v1",
        "http://[fd00:ec2::254]/v1",
        "http://100.100.100.200/v1",
        "http://0.0.0.0/v1",
        "http://[::]/v1",
    ],
)
def test_link_local_and_metadata_addresses_are_refused_in_every_spelling(url: str) -> None:
    with pytest.raises(ValueError, match="link-local or metadata"):
        check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/v1",
        "file:///etc/passwd",
        "host/v1",
        "http://user:secret@host/v1",
        "http://secret@host/v1",
        "http://host/v1?key=1",
        "http://host/v1#x",
        "http://host:0/v1",
        "http://host:99999/v1",
        "http://ho st/v1",
        "http:///v1",
        "http://[::1/v1",
        "http://good\\@169.254.169.254/v1",
    ],
)
def test_what_is_no_plain_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="without credentials") as refused:
        check_url(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("host", ["2852039166", "metadata.example", "0xa9fea9fe"])
def test_a_name_is_refused_for_where_it_leads(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    with pytest.raises(ValueError, match="link-local or metadata"):
        check_resolved(f"http://{host}/v1")


def test_a_name_that_is_not_known_yet_is_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    check_resolved("http://not-yet.example/v1")
