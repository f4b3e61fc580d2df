"""Work that is refused on arrival, when a retry is worth it, and the safety margin that learns from misses."""

from __future__ import annotations

from math import inf

import pytest

from service.batching.queue_admission import QueueAdmission, SafetyMargin
from service.batching.types import DeadlineExceededError, OverloadedError, Priority, WorkItem
from service.batching.work_queue import WorkQueue

STILL = Priority.STILL
BUSY = [0.05]
IDLE = [0.0]


class Queue:
    """A queue with admission. Its worker needs 0.1 s a batch of 4; `waiting` are the units of each client."""

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


def test_work_past_its_deadline_is_refused_even_if_a_worker_is_idle() -> None:
    with pytest.raises(DeadlineExceededError):
        Queue().admission.test(1, STILL, "a", 1.0, 1.0, IDLE)


def test_work_that_would_miss_its_deadline_is_refused() -> None:
    queue = Queue(a=8)
    predicted = queue.admission.wait(1, STILL, "a", BUSY)
    assert predicted == pytest.approx(0.05 + 3 * 0.1)
    assert queue.refusal("a", deadline=predicted) == "late"
    assert queue.refusal("a", deadline=predicted * 2) is None
    assert queue.refusal("a") is None


def test_a_refusal_says_when_to_retry() -> None:
    queue = Queue(a=40)
    with pytest.raises(OverloadedError, match=r"would need 1\.150 s, the deadline is in 0\.600 s") as late:
        queue.admission.test(1, STILL, "a", 0.6, 0.0, BUSY)
    assert late.value.retry_after_s == pytest.approx(1.15 - 0.6 / 1.5)
    with pytest.raises(OverloadedError, match="no room for 30 units") as full:
        queue.admission.test(30, STILL, "a", inf, 0.0, BUSY)
    assert full.value.retry_after_s == pytest.approx(0.05 + 10 * 0.1)  # 40 of the 100 would have to leave


def test_an_idle_worker_takes_work_that_is_predicted_to_be_late() -> None:
    assert Queue().refusal("a", deadline=0.001, busy=IDLE) is None
    assert Queue().refusal("a", deadline=0.001) == "late"


def test_nothing_is_refused_by_prediction_before_anything_has_run() -> None:
    queue = Queue(a=40)
    queue.admission = QueueAdmission("x", queue.queue, (4,), 4, 0.0)
    assert queue.refusal("a", deadline=0.001, busy=[1000.0]) is None
    assert queue.admission.wait(1, STILL, "a", [1000.0]) == 0.0


def test_a_new_client_does_not_wait_for_the_backlog_of_a_flood() -> None:
    queue = Queue(flood=45)
    assert queue.refusal("flood", deadline=0.5) == "late"
    assert queue.refusal("new", deadline=0.5) is None


def test_a_backlog_may_not_exceed_the_remaining_space() -> None:
    queue = Queue(flood=50)
    assert queue.refusal("flood") == "full"
    assert queue.refusal("new", units=25) is None
    assert queue.refusal("new", units=26) == "full"


def test_the_delay_of_a_batch_that_fills_up_is_included() -> None:
    assert Queue(max_delay=0.5).admission.wait(1, STILL, "a", IDLE) == pytest.approx(0.5 + 0.1)


def test_missed_deadlines_make_admission_stricter() -> None:
    queue = Queue(a=8)
    deadline = 0.35 * 1.6
    assert queue.refusal("a", deadline=deadline) is None
    late = entry(deadline=deadline)
    queue.admission.promise([late], 1, 0.0, BUSY)
    queue.admission.missed(late)
    queue.admission.ran([late], 0.1)
    assert queue.refusal("a", deadline=deadline) == "late"


@pytest.mark.parametrize("deadline", [inf, 100.0, 0.2], ids=["none", "ample", "hopeless"])
def test_nothing_is_learnt_from_work_that_was_certain_to_be_in_time_or_late(deadline: float) -> None:
    queue = Queue(a=8)
    each = entry(deadline=deadline)
    queue.admission.promise([each], 1, 0.0, BUSY)
    assert not each.promised


def test_a_miss_outweighs_many_batches_in_time() -> None:
    margin = SafetyMargin()
    first = margin.factor
    margin.miss()
    margin.learn()
    raised = margin.factor
    for _ in range(100):
        margin.learn()
    assert first < margin.factor < raised
    for _ in range(200):
        margin.learn()
    assert abs(margin.factor - first) < 1e-6


def test_one_stall_that_delays_everything_counts_once() -> None:
    one, many = SafetyMargin(), SafetyMargin()
    one.miss()
    for _ in range(100):
        many.miss()
    one.learn()
    many.learn()
    assert one.factor == many.factor


def test_the_margin_stays_within_bounds() -> None:
    """Otherwise a client could drive it to refuse everything."""
    margin = SafetyMargin()
    for _ in range(100):
        margin.miss()
        margin.learn()
    assert margin.factor == 4.0
    for _ in range(10_000):
        margin.learn()
    assert margin.factor == 1.25
