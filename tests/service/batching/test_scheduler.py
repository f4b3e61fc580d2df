"""The batches that workers are given, and the predictions about the batches that they run."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from math import inf

import pytest

from service.batching.scheduler import BatchingLimits, Scheduler
from service.batching.types import ClosedError, DeadlineExceededError, OverloadedError, Priority, WorkItem


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def limits(
    *, max_batch: int = 8, max_delay: float = 0.0, max_queue: int = 256, workers: int = 1, hang_after: float = 5.0
) -> BatchingLimits:
    return BatchingLimits(max_batch, max_delay, max_queue, workers, (1, 2, 4, 8), hang_after)


def opened(clock: Clock, rules: BatchingLimits) -> Scheduler[WorkItem]:
    scheduler = Scheduler[WorkItem]("x", rules, clock)
    scheduler.accept()
    return scheduler


def offer(scheduler: Scheduler[WorkItem], items: int, *, units: int = 1, deadline: float = inf) -> list[WorkItem]:
    entries = [WorkItem(units, Priority.STILL, "a", deadline, 0.0) for _ in range(items)]
    scheduler.offer(entries, admitted=False)
    return entries


def taken(scheduler: Scheduler[WorkItem], worker: int = 0) -> Sequence[WorkItem]:
    work = scheduler.take(worker)
    assert work is not None
    return work[0]


@pytest.mark.parametrize("wrong", [{"max_batch": 0}, {"max_queue": 0}, {"workers": 0}, {"hang_after": 0.0}])
def test_limits_must_make_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        limits(**wrong)


def test_idle_workers_share_the_waiting_work() -> None:
    scheduler = opened(Clock(), limits(workers=3))
    offer(scheduler, 7)
    assert [len(taken(scheduler, worker)) for worker in range(3)] == [3, 2, 2]


def test_a_worker_does_not_leave_work_to_busy_ones() -> None:
    scheduler = opened(Clock(), limits(workers=2))
    scheduler.begin(1, [])
    offer(scheduler, 7)
    assert len(taken(scheduler)) == 7


def test_a_surplus_worker_gets_no_share_and_is_not_counted_on() -> None:
    clock = Clock()
    scheduler = opened(clock, limits(max_batch=4, workers=3))
    assert scheduler.missing() == [0, 1, 2]
    offer(scheduler, 1)
    taken(scheduler, 2)
    scheduler.reshape(4, (1, 2, 4), 2)
    assert scheduler.missing() == []
    offer(scheduler, 6)
    assert [len(taken(scheduler, worker)) for worker in range(2)] == [3, 3]
    scheduler.end(2)
    assert scheduler.take(2) is None
    scheduler.reshape(4, (1, 2, 4), 4)
    assert scheduler.missing() == [2, 3], "it has ended, and has to be started again"
    scheduler.stop()
    assert scheduler.missing() == []


def test_predictions_leave_out_surplus_workers() -> None:
    clock = Clock()
    scheduler = opened(clock, limits(max_batch=1, workers=2))
    for worker in range(2):
        offer(scheduler, 1)
        taken(scheduler, worker)
    scheduler.reshape(1, (1,), 1)
    scheduler.ran(offer(scheduler, 1), 1.0)
    scheduler.end(0)
    assert scheduler.predict(1, Priority.STILL, "a").done == pytest.approx(2.0), "one waits, and one worker is left"


def test_a_batch_is_bounded_by_work_units() -> None:
    scheduler = opened(Clock(), limits(max_batch=8))
    offer(scheduler, 5, units=3)
    sizes = []
    for _ in range(3):
        sizes.append(len(taken(scheduler)))
        scheduler.end(0)
    assert sizes == [2, 2, 1]


def test_one_call_with_many_items_wakes_every_idle_worker() -> None:
    scheduler = opened(Clock(), limits(workers=4))
    sizes: list[int] = []
    threads = [
        threading.Thread(target=lambda worker=worker: sizes.append(len(taken(scheduler, worker))))
        for worker in range(4)
    ]
    for thread in threads:
        thread.start()
    offer(scheduler, 4)
    for thread in threads:
        thread.join(10)
    assert sizes == [1, 1, 1, 1]


def test_a_batch_is_delayed_until_it_is_full_or_old_enough() -> None:
    clock = Clock()
    scheduler = opened(clock, limits(max_batch=4, max_delay=2.0))
    offer(scheduler, 4)
    assert len(taken(scheduler)) == 4
    scheduler.end(0)
    offer(scheduler, 1)
    clock.now = 2.0
    assert len(taken(scheduler)) == 1


def test_the_delay_ends_when_no_more_work_is_accepted() -> None:
    scheduler = opened(Clock(), limits(max_delay=1000.0))
    offer(scheduler, 1)
    scheduler.refuse()
    assert len(taken(scheduler)) == 1


def test_a_delayed_batch_starts_after_the_delay() -> None:
    scheduler = Scheduler[WorkItem]("x", limits(max_delay=0.001), threading_clock())
    scheduler.accept()
    offer(scheduler, 1)
    assert len(taken(scheduler)) == 1


def threading_clock() -> Clock:
    """A clock that advances a little each time it is read."""

    class Ticking(Clock):
        def __call__(self) -> float:
            self.now += 0.0004
            return self.now

    return Ticking()


def test_expired_entries_are_returned_without_a_batch() -> None:
    clock = Clock()
    scheduler = opened(clock, limits())
    late = offer(scheduler, 2, deadline=1.0)
    clock.now = 1.0
    assert scheduler.take(0) == ([], late)
    assert scheduler.stats(0).running_batches == 0


def test_nothing_is_accepted_before_it_opens_or_after_it_closes() -> None:
    scheduler = Scheduler[WorkItem]("x", limits(), Clock())
    with pytest.raises(ClosedError):
        offer(scheduler, 1)
    scheduler.accept()
    offer(scheduler, 1)
    scheduler.refuse()
    with pytest.raises(ClosedError):
        scheduler.admit(1, Priority.STILL, "a", inf)
    assert len(taken(scheduler)) == 1


def test_admitted_work_is_refused_only_when_it_is_too_late() -> None:
    scheduler = opened(Clock(), limits(max_queue=1))
    offer(scheduler, 1)
    more = WorkItem(1, Priority.STILL, "a", 1.0, 0.0)
    scheduler.offer([more], admitted=True)
    with pytest.raises(DeadlineExceededError):
        scheduler.offer([WorkItem(1, Priority.STILL, "a", 0.0, 0.0)], admitted=True)
    assert scheduler.stats(0).waiting_items == 2


def test_a_stopped_scheduler_lets_workers_go_at_once() -> None:
    scheduler = opened(Clock(), limits())
    offer(scheduler, 1)
    scheduler.stop()
    assert scheduler.take(0) is None


def test_withdrawn_entries_leave_the_queue() -> None:
    scheduler = opened(Clock(), limits())
    withdrawn, kept = offer(scheduler, 2)
    scheduler.withdraw([withdrawn])
    assert scheduler.stats(0).waiting_units == 1
    assert taken(scheduler) == [kept]


def test_a_missed_deadline_makes_admission_stricter() -> None:
    clock = Clock()
    scheduler = opened(clock, limits(max_batch=1))
    scheduler.ran(offer(scheduler, 1), 1.0)
    taken(scheduler)
    narrow = offer(scheduler, 1, deadline=3.1)
    clock.now = 3.1
    scheduler.withdraw(narrow)
    scheduler.end(0)
    scheduler.begin(0, narrow)
    scheduler.ran(narrow, 1.0)
    with pytest.raises(OverloadedError):
        offer(scheduler, 1, deadline=clock.now + 3.1)


def test_predictions_count_down_the_running_batch() -> None:
    clock = Clock()
    scheduler = opened(clock, limits(max_batch=1))
    assert scheduler.predict(1, Priority.STILL, "a").done == 0.0
    scheduler.ran(offer(scheduler, 1), 1.0)
    taken(scheduler)
    clock.now = 0.75
    assert scheduler.predict(1, Priority.STILL, "a").done == pytest.approx(0.25 + 1.0)
    clock.now = 3.0  # it is 2 s late, and assumed to need as much time again
    assert scheduler.predict(1, Priority.STILL, "a").done == pytest.approx(2.0 + 1.0)
    scheduler.end(0)
    assert scheduler.predict(1, Priority.STILL, "a").done == pytest.approx(1.0)


def test_reserved_work_counts_as_waiting() -> None:
    clock = Clock()
    scheduler = opened(clock, limits(max_batch=1, max_queue=8))
    scheduler.ran(offer(scheduler, 1), 1.0)
    taken(scheduler)
    scheduler.end(0)
    reservation = scheduler.reserve(3, Priority.STILL, "b")
    assert scheduler.stats(0).waiting_units == 0
    assert scheduler.predict(3, Priority.STILL, "a").done == pytest.approx(6.0)
    with pytest.raises(OverloadedError, match="deadline"):
        offer(scheduler, 1, deadline=1.5)

    arrived = [WorkItem(1, Priority.STILL, "b", 0.5, 0.0) for _ in range(2)]
    scheduler.offer(arrived, admitted=False, reservation=reservation)  # not refused: it was reserved
    assert scheduler.stats(0).waiting_units == 2
    assert scheduler.predict(3, Priority.STILL, "a").done == pytest.approx(6.0)

    scheduler.release(reservation)
    scheduler.release(reservation)  # releasing twice has no effect
    assert scheduler.predict(3, Priority.STILL, "a").done == pytest.approx(5.0)


def test_reservations_count_against_the_bound_of_the_queue() -> None:
    scheduler = opened(Clock(), limits(max_batch=1, max_queue=8))
    scheduler.reserve(6, Priority.STILL, "b")
    with pytest.raises(OverloadedError, match="no room") as refusal:
        offer(scheduler, 3)
    assert refusal.value.reason == "full"


def test_a_batch_has_hung_when_it_is_slow_in_seconds_and_compared_to_others() -> None:
    clock = Clock()
    scheduler = opened(clock, limits(max_batch=1, hang_after=5.0))
    scheduler.ran(offer(scheduler, 1), 2.0)
    taken(scheduler)
    clock.now = 9.0
    assert scheduler.hung() is None
    clock.now = 11.0
    assert scheduler.hung() == "worker 0 of x has been running a batch of 1 for 11.0 s, expected 2.000 s"
    scheduler.end(0)
    assert scheduler.hung() is None


def test_a_batch_whose_items_run_alone_is_timed_item_by_item() -> None:
    clock = Clock()
    scheduler = opened(clock, limits(hang_after=5.0))
    batch = offer(scheduler, 2)
    taken(scheduler)
    for _ in batch:
        clock.now += 4.0
        scheduler.begin(0, batch[:1])
        assert scheduler.hung() is None
