"""The margin rises with missed deadlines and sinks slowly without."""

from __future__ import annotations

from service.batching.margin import SafetyMargin


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


def test_it_stays_within_bounds_so_that_nobody_can_drive_it_to_refuse_all() -> None:
    margin = SafetyMargin()
    for _ in range(100):
        margin.miss()
        margin.learn()
    assert margin.factor == 4.0
    for _ in range(10_000):
        margin.learn()
    assert margin.factor == 1.25
