import json

import pytest

from entobot.core.errors import RETRYABLE, STATUS, Code, Problem


def test_every_code_has_an_error_status_and_no_other_has() -> None:
    assert set(STATUS) == set(Code)
    assert all(400 <= status <= 599 for status in STATUS.values())


def test_codes_are_sorted_and_written_as_they_travel() -> None:
    assert [code.value for code in Code] == sorted(code.value for code in Code)
    assert all(code.value == code.name.lower() for code in Code)


def test_what_may_be_tried_again_is_not_the_callers_mistake() -> None:
    assert {STATUS[code] for code in RETRYABLE} == {401, 429, 500, 502, 503}


@pytest.mark.parametrize("code", list(Code))
def test_a_problem_is_shown_as_rfc_9457_with_its_code(code: Code) -> None:
    body = json.loads(json.dumps(Problem(code, "What happened.").to_json()))
    assert body == {
        "type": f"/docs/errors#{code.value}",
        "title": body["title"],
        "status": STATUS[code],
        "code": code.value,
        "detail": "What happened.",
        "retry": code in RETRYABLE,
    } | ({"retry_after_s": 1.0} if code in (Code.DRAINING, Code.RATE_LIMITED) else {})
    assert body["title"]


def test_further_members_are_shown() -> None:
    body = Problem(Code.PROOF_STALE, "Old.", retry_after_s=2.5, extra={"server_time": 7}).to_json()
    assert (body["retry_after_s"], body["server_time"]) == (2.5, 7)
