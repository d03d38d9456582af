import pytest
from hypothesis import given
from hypothesis import strategies as st

from entobot.core.access import COMMANDS, ROUTES
from entobot.core.errors import Code, Problem
from entobot.core.permissions import (
    ALL_SCOPES,
    DEFAULT_DEVICE_SCOPES,
    ROLE_SCOPES,
    WEAKLY_CONFIRMED_SCOPES,
    Role,
    Scope,
    narrow,
    parse_scopes,
    scope_text,
)
from entobot.core.principal import Principal

scopes = st.frozensets(st.sampled_from(Scope))


@given(scopes, st.lists(scopes, max_size=4))
def test_narrowing_never_widens(wanted: frozenset[Scope], ceilings: list[frozenset[Scope]]) -> None:
    kept = narrow(wanted, *ceilings)
    assert kept <= wanted
    assert all(kept <= ceiling for ceiling in ceilings)


@given(scopes, st.lists(scopes, max_size=4))
def test_narrowing_takes_nothing_that_every_ceiling_grants(
    wanted: frozenset[Scope], ceilings: list[frozenset[Scope]]
) -> None:
    kept = narrow(wanted, *ceilings)
    assert all(scope in kept for scope in wanted if all(scope in ceiling for ceiling in ceilings))


@given(scopes)
def test_scope_text_reads_back(some: frozenset[Scope]) -> None:
    assert parse_scopes(scope_text(some)) == some


def test_an_unknown_scope_is_refused() -> None:
    with pytest.raises(ValueError, match="root"):
        parse_scopes("chat root")


def test_the_owner_holds_everything_and_a_member_what_a_phone_gets() -> None:
    assert ROLE_SCOPES[Role.OWNER] == ALL_SCOPES == frozenset(Scope)
    assert ROLE_SCOPES[Role.MEMBER] == DEFAULT_DEVICE_SCOPES
    assert set(ROLE_SCOPES) == set(Role)


def test_a_weakly_confirmed_device_can_neither_approve_nor_administer() -> None:
    assert frozenset({Scope.CHAT, Scope.NOTIFY}) == WEAKLY_CONFIRMED_SCOPES


def test_a_principal_without_the_scope_is_refused() -> None:
    principal = Principal("usr_1", frozenset({Scope.CHAT}), "dev_1")
    principal.require(Scope.CHAT)
    with pytest.raises(Problem) as refused:
        principal.require(Scope.PAIR)
    assert refused.value.code is Code.FORBIDDEN


def test_only_the_unix_socket_is_local() -> None:
    assert Principal("usr_1", ALL_SCOPES).is_local
    assert not Principal("usr_1", ALL_SCOPES, "dev_1").is_local
    assert not Principal("usr_1", ALL_SCOPES, is_by_sms=True).is_local


def test_the_access_tables_are_sorted_within_their_methods() -> None:
    assert list(COMMANDS) == sorted(COMMANDS)
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        paths = [route for route in ROUTES if route.startswith(f"{method} ")]
        assert paths == sorted(paths)
