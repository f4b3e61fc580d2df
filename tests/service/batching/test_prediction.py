"""Learning the service time of batches, and predicting when waiting work will be done."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.batching.prediction import ServiceTime

BATCH_SIZES = (1, 2, 4, 8)


def learnt(**seconds: float) -> ServiceTime:
    """Many observations of each batch size, given as `of_4=0.1`."""
    time = ServiceTime(BATCH_SIZES)
    for _ in range(100):
        for batch_size, took in seconds.items():
            time.observe(int(batch_size.removeprefix("of_")), took)
    return time


@pytest.mark.parametrize("batch_sizes", [(), (0, 1), (2, 1), (1, 1)])
def test_batch_sizes_must_ascend(batch_sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        ServiceTime(batch_sizes)


def test_before_any_batch_has_run_all_predictions_are_zero() -> None:
    time = ServiceTime(BATCH_SIZES)
    assert time.batch(8) == 0.0
    assert time.until_done(100, 8, [5.0]) == 0.0


def test_a_batch_takes_the_time_of_the_next_batch_size_and_beyond_the_largest_in_proportion() -> None:
    time = learnt(of_1=0.1, of_2=0.15, of_4=0.25, of_8=0.4)
    assert [time.batch(units) for units in (1, 3, 5, 8, 16)] == pytest.approx([0.1, 0.25, 0.4, 0.4, 0.8])


def test_batch_sizes_never_observed_take_the_slower_bound() -> None:
    time = ServiceTime(BATCH_SIZES)
    time.observe(2, 0.1)
    assert [time.batch(batch_size) for batch_size in BATCH_SIZES] == pytest.approx([0.1, 0.1, 0.2, 0.4])


def test_a_batch_size_that_is_no_longer_used_does_not_keep_an_outdated_value() -> None:
    time = learnt(of_1=0.01, of_8=10.0)
    for _ in range(100):
        time.observe(1, 0.01)
    assert time.batch(8) == pytest.approx(0.08)
    for _ in range(100):
        time.observe(8, 0.8)
    assert time.batch(1) == pytest.approx(0.1)


@given(st.lists(st.tuples(st.integers(1, 20), st.floats(0.0, 10.0)), min_size=1, max_size=50))
def test_every_estimate_lies_within_the_observations_scaled_by_size(observed: list[tuple[int, float]]) -> None:
    time = ServiceTime(BATCH_SIZES)
    for units, seconds in observed:
        time.observe(units, seconds)
    longest = max(seconds for _, seconds in observed)
    assert all(0.0 <= time.batch(batch_size) <= longest * batch_size + 1e-9 for batch_size in BATCH_SIZES)


def test_one_stall_changes_little_but_ten_slow_batches_are_learnt() -> None:
    time = learnt(of_1=0.01)
    time.observe(1, 60.0)
    assert time.batch(1) < 0.02
    for _ in range(10):
        time.observe(1, 0.1)
    assert time.batch(1) > 0.08


def test_a_change_from_zero_is_learnt() -> None:
    time = learnt(of_1=0.0)
    for _ in range(100):
        time.observe(1, 0.1)
    assert time.batch(1) == pytest.approx(0.1, rel=0.01)


def test_work_waits_for_the_running_batch_and_for_full_batches() -> None:
    time = learnt(of_1=0.1, of_8=0.4)
    assert time.until_done(1, 8, [0.0]) == pytest.approx(0.1)
    assert time.until_done(1, 8, [0.3]) == pytest.approx(0.3 + 0.1)
    assert time.until_done(8, 8, [0.3]) == pytest.approx(0.3 + 0.4)
    assert time.until_done(24, 8, [0.3]) == pytest.approx(0.3 + 3 * 0.4)


def test_the_last_batch_counts_as_full_if_others_run_before_it() -> None:
    assert learnt(of_1=0.1, of_8=0.4).until_done(9, 8, [0.0]) == pytest.approx(0.8)


def test_workers_share_the_waiting_work() -> None:
    time = learnt(of_8=0.4)
    assert time.until_done(24, 8, [0.0, 0.0]) == pytest.approx(0.4 + 0.4)
    assert time.until_done(16, 8, [0.2, 0.6]) == pytest.approx(0.6 + 0.4)


def test_a_hung_worker_is_not_counted_on() -> None:
    assert learnt(of_8=0.4).until_done(24, 8, [0.0, 1000.0]) == pytest.approx(0.8 + 0.4)


def test_batches_that_gain_little_are_short_and_others_full() -> None:
    cpu, gpu = ServiceTime((1, 2, 4, 8)), ServiceTime((1, 2, 4, 8))
    assert cpu.short_batch(8) == 8  # nothing is known yet
    for _ in range(20):
        cpu.observe(1, 0.03)
        cpu.observe(8, 0.24)
        gpu.observe(1, 0.1)
        gpu.observe(8, 0.15)
    assert (cpu.short_batch(2), cpu.short_batch(8)) == (2, 3)
    assert gpu.short_batch(8) == 8
