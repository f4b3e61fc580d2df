"""What is learnt of batches, and when waiting work is said to be done."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.batching.prediction import ServiceTime

RUNGS = (1, 2, 4, 8)


def learnt(**seconds: float) -> ServiceTime:
    """Many observations of each rung, given as `of_4=0.1`."""
    time = ServiceTime(RUNGS)
    for _ in range(100):
        for batch_size, took in seconds.items():
            time.observe(int(batch_size.removeprefix("of_")), took)
    return time


@pytest.mark.parametrize("batch_sizes", [(), (0, 1), (2, 1), (1, 1)])
def test_rungs_ascend(batch_sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        ServiceTime(batch_sizes)


def test_before_any_batch_has_run_everything_is_done_at_once() -> None:
    time = ServiceTime(RUNGS)
    assert time.batch(8) == 0.0
    assert time.until_done(100, 8, [5.0]) == 0.0


def test_a_batch_between_rungs_costs_the_rung_above_it_and_one_beyond_them_in_proportion() -> None:
    time = learnt(of_1=0.1, of_2=0.15, of_4=0.25, of_8=0.4)
    assert [time.batch(units) for units in (1, 3, 5, 8, 16)] == pytest.approx([0.1, 0.25, 0.4, 0.4, 0.8])


def test_rungs_never_seen_take_the_slower_bound() -> None:
    time = ServiceTime(RUNGS)
    time.observe(2, 0.1)
    assert [time.batch(batch_size) for batch_size in RUNGS] == pytest.approx([0.1, 0.1, 0.2, 0.4])


def test_a_rung_that_load_reaches_no_more_does_not_keep_a_stale_value() -> None:
    time = learnt(of_1=0.01, of_8=10.0)
    for _ in range(100):
        time.observe(1, 0.01)
    assert time.batch(8) == pytest.approx(0.08)
    for _ in range(100):
        time.observe(8, 0.8)
    assert time.batch(1) == pytest.approx(0.1)


@given(st.lists(st.tuples(st.integers(1, 20), st.floats(0.0, 10.0)), min_size=1, max_size=50))
def test_every_estimate_lies_within_what_was_observed_scaled_by_size(observed: list[tuple[int, float]]) -> None:
    time = ServiceTime(RUNGS)
    for units, seconds in observed:
        time.observe(units, seconds)
    longest = max(seconds for _, seconds in observed)
    assert all(0.0 <= time.batch(batch_size) <= longest * batch_size + 1e-9 for batch_size in RUNGS)


def test_one_stall_is_no_trend_but_ten_slow_batches_are() -> None:
    time = learnt(of_1=0.01)
    time.observe(1, 60.0)
    assert time.batch(1) < 0.02
    for _ in range(10):
        time.observe(1, 0.1)
    assert time.batch(1) > 0.08


def test_a_change_is_learnt_even_from_zero() -> None:
    time = learnt(of_1=0.0)
    for _ in range(100):
        time.observe(1, 0.1)
    assert time.batch(1) == pytest.approx(0.1, rel=0.01)


def test_work_waits_for_the_batch_under_way_and_for_full_batches() -> None:
    time = learnt(of_1=0.1, of_8=0.4)
    assert time.until_done(1, 8, [0.0]) == pytest.approx(0.1)
    assert time.until_done(1, 8, [0.3]) == pytest.approx(0.3 + 0.1)
    assert time.until_done(8, 8, [0.3]) == pytest.approx(0.3 + 0.4)
    assert time.until_done(24, 8, [0.3]) == pytest.approx(0.3 + 3 * 0.4)


def test_the_last_batch_counts_as_full_where_others_run_before_it() -> None:
    assert learnt(of_1=0.1, of_8=0.4).until_done(9, 8, [0.0]) == pytest.approx(0.8)


def test_workers_share_what_waits() -> None:
    time = learnt(of_8=0.4)
    assert time.until_done(24, 8, [0.0, 0.0]) == pytest.approx(0.4 + 0.4)
    assert time.until_done(16, 8, [0.2, 0.6]) == pytest.approx(0.6 + 0.4)


def test_a_worker_that_hangs_is_not_counted_on() -> None:
    assert learnt(of_8=0.4).until_done(24, 8, [0.0, 1000.0]) == pytest.approx(0.8 + 0.4)
