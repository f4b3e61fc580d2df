"""What workers are handed, and what is known about the batches they run."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from math import inf

import pytest

from service.batching.errors import ClosedError, DeadlineExceededError, OverloadedError
from service.batching.fair_queue import Entry, Priority
from service.batching.scheduler import Dispatcher, Limits


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def limits(
    *, max_batch: int = 8, max_delay: float = 0.0, max_queue: int = 256, workers: int = 1, hang_after: float = 5.0
) -> Limits:
    return Limits(max_batch, max_delay, max_queue, workers, (1, 2, 4, 8), hang_after)


def opened(clock: Clock, rules: Limits) -> Dispatcher[Entry]:
    dispatcher = Dispatcher[Entry]("x", rules, clock)
    dispatcher.accept()
    return dispatcher


def offer(dispatcher: Dispatcher[Entry], items: int, *, units: int = 1, deadline: float = inf) -> list[Entry]:
    entries = [Entry(units, Priority.STILL, "a", deadline, 0.0) for _ in range(items)]
    dispatcher.offer(entries, admitted=False)
    return entries


def taken(dispatcher: Dispatcher[Entry], worker: int = 0) -> Sequence[Entry]:
    work = dispatcher.take(worker)
    assert work is not None
    return work[0]


@pytest.mark.parametrize("wrong", [{"max_batch": 0}, {"max_queue": 0}, {"workers": 0}, {"hang_after": 0.0}])
def test_limits_must_make_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        limits(**wrong)


def test_idle_workers_share_what_waits() -> None:
    dispatcher = opened(Clock(), limits(workers=3))
    offer(dispatcher, 7)
    assert [len(taken(dispatcher, worker)) for worker in range(3)] == [3, 2, 2]


def test_a_worker_does_not_leave_work_to_busy_ones() -> None:
    dispatcher = opened(Clock(), limits(workers=2))
    dispatcher.begin(1, [])
    offer(dispatcher, 7)
    assert len(taken(dispatcher)) == 7


def test_a_worker_that_is_to_leave_gets_no_share_and_is_not_counted_on() -> None:
    clock = Clock()
    dispatcher = opened(clock, limits(max_batch=4, workers=3))
    assert dispatcher.missing() == [0, 1, 2]
    offer(dispatcher, 1)
    taken(dispatcher, 2)
    dispatcher.reshape(4, (1, 2, 4), 2)
    assert dispatcher.missing() == []
    offer(dispatcher, 6)
    assert [len(taken(dispatcher, worker)) for worker in range(2)] == [3, 3]
    dispatcher.end(2)
    assert dispatcher.take(2) is None
    dispatcher.reshape(4, (1, 2, 4), 4)
    assert dispatcher.missing() == [2, 3], "it has left, and would have to be called for again"
    dispatcher.stop()
    assert dispatcher.missing() == []


def test_predictions_leave_out_who_is_to_leave() -> None:
    clock = Clock()
    dispatcher = opened(clock, limits(max_batch=1, workers=2))
    for worker in range(2):
        offer(dispatcher, 1)
        taken(dispatcher, worker)
    dispatcher.reshape(1, (1,), 1)
    dispatcher.ran(offer(dispatcher, 1), 1.0)
    dispatcher.end(0)
    assert dispatcher.predict(1, Priority.STILL, "a").done == pytest.approx(2.0), "one waits, and nobody else comes"


def test_a_batch_is_bounded_by_work_units() -> None:
    dispatcher = opened(Clock(), limits(max_batch=8))
    offer(dispatcher, 5, units=3)
    sizes = []
    for _ in range(3):
        sizes.append(len(taken(dispatcher)))
        dispatcher.end(0)
    assert sizes == [2, 2, 1]


def test_one_call_with_many_items_wakes_every_idle_worker() -> None:
    dispatcher = opened(Clock(), limits(workers=4))
    sizes: list[int] = []
    threads = [
        threading.Thread(target=lambda worker=worker: sizes.append(len(taken(dispatcher, worker))))
        for worker in range(4)
    ]
    for thread in threads:
        thread.start()
    offer(dispatcher, 4)
    for thread in threads:
        thread.join(10)
    assert sizes == [1, 1, 1, 1]


def test_a_delay_holds_a_batch_until_it_is_full_or_old_enough() -> None:
    clock = Clock()
    dispatcher = opened(clock, limits(max_batch=4, max_delay=2.0))
    offer(dispatcher, 4)
    assert len(taken(dispatcher)) == 4
    dispatcher.end(0)
    offer(dispatcher, 1)
    clock.now = 2.0
    assert len(taken(dispatcher)) == 1


def test_a_delay_ends_when_nothing_more_will_come() -> None:
    dispatcher = opened(Clock(), limits(max_delay=1000.0))
    offer(dispatcher, 1)
    dispatcher.refuse()
    assert len(taken(dispatcher)) == 1


def test_a_held_batch_starts_when_its_time_has_come() -> None:
    dispatcher = Dispatcher[Entry]("x", limits(max_delay=0.001), threading_clock())
    dispatcher.accept()
    offer(dispatcher, 1)
    assert len(taken(dispatcher)) == 1


def threading_clock() -> Clock:
    """A clock that is a little later each time it is read."""

    class Ticking(Clock):
        def __call__(self) -> float:
            self.now += 0.0004
            return self.now

    return Ticking()


def test_expired_entries_are_handed_over_without_a_batch() -> None:
    clock = Clock()
    dispatcher = opened(clock, limits())
    late = offer(dispatcher, 2, deadline=1.0)
    clock.now = 1.0
    assert dispatcher.take(0) == ([], late)
    assert dispatcher.stats(0).running_batches == 0


def test_nothing_is_accepted_before_it_opens_or_after_it_closes() -> None:
    dispatcher = Dispatcher[Entry]("x", limits(), Clock())
    with pytest.raises(ClosedError):
        offer(dispatcher, 1)
    dispatcher.accept()
    offer(dispatcher, 1)
    dispatcher.refuse()
    with pytest.raises(ClosedError):
        dispatcher.admit(1, Priority.STILL, "a", inf)
    assert len(taken(dispatcher)) == 1


def test_admitted_work_is_refused_only_when_it_is_too_late() -> None:
    dispatcher = opened(Clock(), limits(max_queue=1))
    offer(dispatcher, 1)
    more = Entry(1, Priority.STILL, "a", 1.0, 0.0)
    dispatcher.offer([more], admitted=True)
    with pytest.raises(DeadlineExceededError):
        dispatcher.offer([Entry(1, Priority.STILL, "a", 0.0, 0.0)], admitted=True)
    assert dispatcher.stats(0).waiting_items == 2


def test_a_stopped_dispatcher_lets_workers_go_at_once() -> None:
    dispatcher = opened(Clock(), limits())
    offer(dispatcher, 1)
    dispatcher.stop()
    assert dispatcher.take(0) is None


def test_withdrawn_work_leaves_no_trace() -> None:
    dispatcher = opened(Clock(), limits())
    gone, stays = offer(dispatcher, 2)
    dispatcher.withdraw([gone])
    assert dispatcher.stats(0).waiting_units == 1
    assert taken(dispatcher) == [stays]


def test_a_deadline_missed_makes_the_next_refusal_come_earlier() -> None:
    clock = Clock()
    dispatcher = opened(clock, limits(max_batch=1))
    dispatcher.ran(offer(dispatcher, 1), 1.0)
    taken(dispatcher)
    narrow = offer(dispatcher, 1, deadline=3.1)
    clock.now = 3.1
    dispatcher.withdraw(narrow)
    dispatcher.end(0)
    dispatcher.begin(0, narrow)
    dispatcher.ran(narrow, 1.0)
    with pytest.raises(OverloadedError):
        offer(dispatcher, 1, deadline=clock.now + 3.1)


def test_predictions_count_down_what_runs() -> None:
    clock = Clock()
    dispatcher = opened(clock, limits(max_batch=1))
    assert dispatcher.predict(1, Priority.STILL, "a").done == 0.0
    dispatcher.ran(offer(dispatcher, 1), 1.0)
    taken(dispatcher)
    clock.now = 0.75
    assert dispatcher.predict(1, Priority.STILL, "a").done == pytest.approx(0.25 + 1.0)
    clock.now = 3.0  # it is 2 s late, and expected to be as late again
    assert dispatcher.predict(1, Priority.STILL, "a").done == pytest.approx(2.0 + 1.0)
    dispatcher.end(0)
    assert dispatcher.predict(1, Priority.STILL, "a").done == pytest.approx(1.0)


def test_work_that_is_on_its_way_counts_as_if_it_waited() -> None:
    clock = Clock()
    dispatcher = opened(clock, limits(max_batch=1, max_queue=8))
    dispatcher.ran(offer(dispatcher, 1), 1.0)
    taken(dispatcher)
    dispatcher.end(0)
    place = dispatcher.hold(3, Priority.STILL, "b")
    assert dispatcher.stats(0).waiting_units == 0
    assert dispatcher.predict(3, Priority.STILL, "a").done == pytest.approx(6.0)
    with pytest.raises(OverloadedError, match="deadline"):
        offer(dispatcher, 1, deadline=1.5)

    come = [Entry(1, Priority.STILL, "b", 0.5, 0.0) for _ in range(2)]
    dispatcher.offer(come, admitted=False, place=place)  # no test: it was let in before
    assert dispatcher.stats(0).waiting_units == 2
    assert dispatcher.predict(3, Priority.STILL, "a").done == pytest.approx(6.0)

    dispatcher.release(place)
    dispatcher.release(place)  # once is enough
    assert dispatcher.predict(3, Priority.STILL, "a").done == pytest.approx(5.0)


def test_places_leave_no_room_beyond_the_queues_bound() -> None:
    dispatcher = opened(Clock(), limits(max_batch=1, max_queue=8))
    dispatcher.hold(6, Priority.STILL, "b")
    with pytest.raises(OverloadedError, match="no room") as refusal:
        offer(dispatcher, 3)
    assert refusal.value.reason == "full"


def test_a_batch_hangs_when_it_is_slow_both_in_seconds_and_for_its_kind() -> None:
    clock = Clock()
    dispatcher = opened(clock, limits(max_batch=1, hang_after=5.0))
    dispatcher.ran(offer(dispatcher, 1), 2.0)
    taken(dispatcher)
    clock.now = 9.0
    assert dispatcher.hung() is None
    clock.now = 11.0
    assert dispatcher.hung() == "worker 0 of x has been running a batch of 1 for 11.0 s, expected 2.000 s"
    dispatcher.end(0)
    assert dispatcher.hung() is None


def test_a_batch_whose_items_run_alone_is_watched_item_by_item() -> None:
    clock = Clock()
    dispatcher = opened(clock, limits(hang_after=5.0))
    batch = offer(dispatcher, 2)
    taken(dispatcher)
    for _ in batch:
        clock.now += 4.0
        dispatcher.begin(0, batch[:1])
        assert dispatcher.hung() is None
