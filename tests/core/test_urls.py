import pytest

from entobot.core.urls import place_of


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://host/db", "host"),
        ("postgresql://u:p@host:5432/db?sslmode=require", "host:5432"),
        ("postgresql://u:p@one:1,two:2/db", "one:1,two:2"),
        ("postgresql://u:p%40ss@[::1]:5432/db", "[::1]:5432"),
        ("postgresql:///db?host=/run/postgresql", ""),
        ("nats://token@host", "host"),
        ("nats://u:p@ss@host", "host"),
        ("", ""),
    ],
)
def test_the_place_is_what_stands_after_the_credentials(url: str, place: str) -> None:
    assert place_of(url) == place


@pytest.mark.parametrize("character", "/?#")
@pytest.mark.parametrize("secret", ["sec{}ret", "123{}ret", "{}ret"])
def test_a_password_that_is_not_encoded_is_not_taken_for_a_port(character: str, secret: str) -> None:
    assert place_of(f"postgresql://u:{secret.format(character)}@host/db") is None
