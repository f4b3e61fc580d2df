"""Who is refused on arrival, and when to come back."""

from __future__ import annotations

from math import inf

import pytest

from service.batching.admission import QueueAdmission
from service.batching.errors import DeadlineExceededError, OverloadedError
from service.batching.fair_queue import Priority, WorkItem
from service.batching.queue import WorkQueue

STILL = Priority.STILL
BUSY = [0.05]
IDLE = [0.0]


class Desk:
    """An admission whose worker needs 0.1 s a batch of 4, with so many units waiting."""

    def __init__(self, max_queue: int = 100, max_delay: float = 0.0, **waiting: int) -> None:
        self.queue = WorkQueue[WorkItem](max_queue)
        self.admission = QueueAdmission("x", self.queue, (4,), 4, max_delay)
        self.admission.time.observe(4, 0.1)
        for client, units in waiting.items():
            for _ in range(units):
                self.queue.push(entry(client))

    def refusal(self, client: str, *, units: int = 1, deadline: float = inf, busy: list[float] = BUSY) -> str | None:
        try:
            self.admission.test(units, STILL, client, deadline, 0.0, busy)
        except OverloadedError as error:
            return error.reason
        return None


def entry(client: str = "a", deadline: float = inf) -> WorkItem:
    return WorkItem(1, STILL, client, deadline, 0.0)


def test_what_has_passed_its_deadline_is_refused_even_by_an_idle_worker() -> None:
    with pytest.raises(DeadlineExceededError):
        Desk().admission.test(1, STILL, "a", 1.0, 1.0, IDLE)


def test_what_would_come_too_late_is_refused() -> None:
    desk = Desk(a=8)
    predicted = desk.admission.wait(1, STILL, "a", BUSY)
    assert predicted == pytest.approx(0.05 + 3 * 0.1)
    assert desk.refusal("a", deadline=predicted) == "late"
    assert desk.refusal("a", deadline=predicted * 2) is None
    assert desk.refusal("a") is None


def test_the_refusal_says_when_to_come_back() -> None:
    desk = Desk(a=40)
    with pytest.raises(OverloadedError, match=r"would need 1\.150 s, the deadline is in 0\.600 s") as late:
        desk.admission.test(1, STILL, "a", 0.6, 0.0, BUSY)
    assert late.value.retry_after_s == pytest.approx(1.15 - 0.6 / 1.5)
    with pytest.raises(OverloadedError, match="no room for 30 units") as full:
        desk.admission.test(30, STILL, "a", inf, 0.0, BUSY)
    assert full.value.retry_after_s == pytest.approx(0.05 + 10 * 0.1)  # 40 of the 100 would have to leave


def test_an_idle_worker_takes_what_the_model_thinks_hopeless() -> None:
    assert Desk().refusal("a", deadline=0.001, busy=IDLE) is None
    assert Desk().refusal("a", deadline=0.001) == "late"


def test_nothing_is_refused_by_prediction_before_anything_has_run() -> None:
    desk = Desk(a=40)
    desk.admission = QueueAdmission("x", desk.queue, (4,), 4, 0.0)
    assert desk.refusal("a", deadline=0.001, busy=[1000.0]) is None
    assert desk.admission.wait(1, STILL, "a", [1000.0]) == 0.0


def test_a_newcomer_does_not_wait_for_the_queue_of_a_flood() -> None:
    desk = Desk(flood=45)
    assert desk.refusal("flood", deadline=0.5) == "late"
    assert desk.refusal("new", deadline=0.5) is None


def test_a_client_may_hold_no_more_than_stays_free() -> None:
    desk = Desk(flood=50)
    assert desk.refusal("flood") == "full"
    assert desk.refusal("new", units=25) is None
    assert desk.refusal("new", units=26) == "full"


def test_a_worker_that_waits_for_its_batch_to_fill_is_reckoned_with() -> None:
    assert Desk(max_delay=0.5).admission.wait(1, STILL, "a", IDLE) == pytest.approx(0.5 + 0.1)


def test_missed_deadlines_make_it_more_careful() -> None:
    desk = Desk(a=8)
    deadline = 0.35 * 1.6
    assert desk.refusal("a", deadline=deadline) is None
    late = entry(deadline=deadline)
    desk.admission.promise([late], 1, 0.0, BUSY)
    desk.admission.missed(late)
    desk.admission.ran([late], 0.1)
    assert desk.refusal("a", deadline=deadline) == "late"


@pytest.mark.parametrize("deadline", [inf, 100.0, 0.2], ids=["none", "ample", "hopeless"])
def test_work_that_was_bound_to_be_in_time_or_late_teaches_nothing(deadline: float) -> None:
    desk = Desk(a=8)
    each = entry(deadline=deadline)
    desk.admission.promise([each], 1, 0.0, BUSY)
    assert not each.promised
