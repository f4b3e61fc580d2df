"""Counts of a camera, and its rates of late."""

from __future__ import annotations

import pytest

from service.cameras.tally import CameraTally


def test_rates_are_those_of_the_last_five_seconds() -> None:
    tally = CameraTally()
    tally.sample(0.0)
    assert (tally.fps_in, tally.fps_done, tally.age) == (0.0, 0.0, None)
    for second in range(1, 11):  # ten seconds at 20 frames a second, of which 5 have results that are 0.1 s old
        tally.decoded += 20
        tally.done += 5
        tally.ages += 0.5
        tally.sample(second)
    assert (tally.fps_in, tally.fps_done) == (20, 5)
    assert tally.age == pytest.approx(0.1)
    assert tally.dropped == 150
    for second in range(11, 16):
        tally.sample(second)
    assert (tally.fps_in, tally.fps_done, tally.age) == (0, 0, None)


def test_a_result_may_be_counted_before_its_frame() -> None:
    tally = CameraTally(decoded=3, done=4)
    assert tally.dropped == 0
