"""On which frames the detector runs."""

from __future__ import annotations

import math

import pytest

from service.tracking.detector_pace import Attention, DetectEvery, detector_is_due

SETTLED, LOST, NEW = Attention(lost=False), Attention(lost=True), Attention(lost=False, new=True)


def runs(every: DetectEvery, cost: float, attention: Attention = SETTLED, fps: float = 30.0) -> int:
    """The number of runs in ten seconds, after the first."""
    last, count = 0.0, 0
    for n in range(1, round(10 * fps) + 1):
        now = round(n / fps, 3)
        if detector_is_due(every, now - last, attention, cost):
            last, count = now, count + 1
    return count


@pytest.mark.parametrize("every", [None, 0.0, 0.2, 10.0])
def test_the_first_frame_is_looked_at(every: DetectEvery) -> None:
    assert detector_is_due(every, math.inf, Attention(), 0.0)
    assert detector_is_due(every, math.inf, SETTLED, 1.0)


def test_a_number_is_kept_unless_somebody_was_lost() -> None:
    assert runs(0.0, cost=1.0) == 300
    assert runs(0.2, cost=1.0) == 50
    assert runs(0.2, cost=1.0, attention=NEW) == 50
    assert runs(0.2, cost=1.0, attention=LOST) == 300


def test_a_fast_detector_runs_on_every_frame() -> None:
    assert runs(None, cost=0.005) == 300


@pytest.mark.parametrize("cost", [0.02, 0.03, 0.05, 0.1])
def test_a_slower_one_takes_a_quarter_of_the_time_and_half_while_it_is_needed(cost: float) -> None:
    assert 0.15 <= runs(None, cost) * cost / 10 <= 0.25
    for attention in (LOST, NEW):
        assert 0.25 < runs(None, cost, attention) * cost / 10 <= 0.5


@pytest.mark.parametrize("attention", [SETTLED, LOST, NEW])
def test_however_busy_the_network_is_it_runs_twice_a_second(attention: Attention) -> None:
    assert runs(None, cost=5.0, attention=attention) == 20
