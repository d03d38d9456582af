"""Commands go out in order, once a connection, again on the next, and never after their time."""

from entobot.client.journal import Pending
from entobot.client.outbox import FIRST_RETRY_S, MAX_IN_FLIGHT, Outbox
from entobot.core.errors import Code, Problem


def pending(number: int, deadline_at_ms: int = 10_000) -> Pending:
    return Pending(f"id-{number}", "message.send", "{}", 0, deadline_at_ms)


def filled(count: int) -> Outbox:
    outbox = Outbox()
    for number in range(count):
        outbox.add(pending(number))
    return outbox


def ids(outbox: Outbox, now_s: float = 0.0) -> list[str]:
    return [command.id for command in outbox.to_send(now_s)]


def test_commands_go_out_oldest_first_and_once_a_connection() -> None:
    outbox = filled(3)
    assert ids(outbox) == ["id-0", "id-1", "id-2"]
    assert ids(outbox) == []
    outbox.link_is_new()
    outbox.settle("id-1")
    assert ids(outbox) == ["id-0", "id-2"]


def test_no_more_are_under_way_than_a_gateway_takes() -> None:
    outbox = filled(MAX_IN_FLIGHT + 5)
    assert len(ids(outbox)) == MAX_IN_FLIGHT
    outbox.settle("id-0")
    outbox.settle("id-1")
    assert ids(outbox) == [f"id-{MAX_IN_FLIGHT}", f"id-{MAX_IN_FLIGHT + 1}"]


def test_a_refusal_that_may_pass_is_tried_again_later_and_later_and_a_final_one_never() -> None:
    outbox = filled(2)
    assert len(ids(outbox)) == 2
    busy = Problem(Code.INTERNAL, "The store did not take it.")
    assert not outbox.refused("id-0", busy, now_s=100.0)
    assert ids(outbox, 100.0 + FIRST_RETRY_S / 2) == []
    assert outbox.next_due_s() == 100.0 + FIRST_RETRY_S
    assert ids(outbox, 100.0 + FIRST_RETRY_S) == ["id-0"]
    assert not outbox.refused("id-0", busy, now_s=200.0)
    assert outbox.next_due_s() == 200.0 + 2 * FIRST_RETRY_S
    assert outbox.refused("id-1", Problem(Code.INVALID, "Not like this."), now_s=100.0)


def test_the_time_that_the_gateway_names_wins() -> None:
    outbox = filled(1)
    assert len(ids(outbox)) == 1
    assert not outbox.refused("id-0", Problem(Code.RATE_LIMITED, "Wait.", retry_after_s=7.0), now_s=100.0)
    assert outbox.next_due_s() == 107.0


def test_after_a_frame_was_refused_unread_everything_without_an_answer_goes_out_again() -> None:
    outbox = filled(3)
    assert len(ids(outbox)) == 3
    outbox.settle("id-0")
    outbox.one_was_dropped(5.0)
    assert ids(outbox, 4.9) == []
    assert ids(outbox, 5.0) == ["id-1", "id-2"]


def test_a_command_whose_deadline_is_over_is_not_sent_any_more() -> None:
    outbox = Outbox()
    outbox.add(pending(0, deadline_at_ms=50))
    outbox.add(pending(1, deadline_at_ms=60))
    assert outbox.next_deadline_ms() == 50
    assert [command.id for command in outbox.expired(50)] == ["id-0"]
    assert ids(outbox) == ["id-1"]
    assert outbox.settle("id-0") is None


def test_the_same_id_is_one_command() -> None:
    outbox = filled(1)
    assert ids(outbox) == ["id-0"]
    outbox.add(pending(0))
    assert ids(outbox) == []
    assert len(outbox) == 1
