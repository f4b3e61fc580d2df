"""A clock that jumps, wraps, stands still or has an outlier is made steady."""

from __future__ import annotations

from fractions import Fraction

import pytest

from service.media.timeline import Guess, Timeline, steady

STEP = Fraction(1, 25)


def video(times: list[float], *, jumps: bool = True) -> list[float]:
    """The corrected times of a video's packets, in frames."""
    timeline = Timeline(jumps)
    return [float((t * STEP + timeline.video(t * STEP, STEP)) / STEP) for t in map(Fraction, times)]


def frames(times: list[int | None], duration: int = 10) -> list[int]:
    return [time for _, time in steady((None, time, duration) for time in times)]


@pytest.mark.parametrize("jumps", [True, False])
@pytest.mark.parametrize(
    ("times", "become"),
    [
        ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
        ([0, 1, 2, 7, 8], [0, 1, 2, 7, 8]),  # frames were lost
        ([50, 51, 52, 0, 1, 2], [50, 51, 52, 53, 54, 55]),  # another file was appended
        ([0, 1, 2, -9000, 4, 5], [0, 1, 2, 3, 4, 5]),
        ([0, 1, 2, 3, 2, 4, 5], [0, 1, 2, 3, 2, 4, 5]),  # too small for a jump
    ],
)
def test_decoding_times_are_steady_in_every_format(times: list[float], become: list[float], jumps: bool) -> None:
    assert video(times, jumps=jumps) == become


def test_only_a_clock_that_may_jump_is_rebased_after_ten_seconds() -> None:
    times: list[float] = [0, 1, 2, 900_000, 900_001]
    assert video(times) == [0, 1, 2, 3, 4]
    assert video(times, jumps=False) == times
    assert video([0, 1, 9e9, 9e9 + 1], jumps=False) == [0, 1, 2, 3]


def test_after_an_outlier_the_former_clock_is_used() -> None:
    assert video([0, 1, 2, 900_000, 4, 5, 6]) == [0, 1, 2, 3, 4, 5, 6]
    assert video([0, 1, 2, 900_000, 4, 5, 6], jumps=False) == [0, 1, 2, 900_000, 4, 5, 6]  # for `steady` to place


def test_sound_keeps_its_distance_from_a_video_that_jumps() -> None:
    timeline = Timeline(jumps=True)
    found = []
    for beginning in (0, 5000):
        for number in range(50):
            at = beginning + number * STEP
            heard = at + STEP / 2
            found.append(float(heard + timeline.sound(1, heard, STEP)))  # the jump appears in the sound first
            found.append(float(at + timeline.video(at, STEP)))
    assert found[1::2] == [float(number * STEP) for number in range(100)]
    apart = {round(heard - seen, 6) for heard, seen in zip(found[102::2], found[103::2], strict=True)}
    assert apart == {float(STEP / 2)}


def test_an_outlier_of_the_sound_does_not_affect_the_video() -> None:
    timeline = Timeline(jumps=True)
    offsets = []
    for number in range(20):
        at = number * STEP
        timeline.sound(1, at + (5000 if number == 10 else 0), STEP)
        offsets.append(timeline.video(at, STEP))
    assert set(offsets) == {0}


def test_sound_with_its_own_clock_is_aligned_to_the_video() -> None:
    timeline = Timeline(jumps=True, own={1: Fraction(-5000)})
    assert timeline.sound(1, Fraction(5000), STEP) == -5000
    assert timeline.video(Fraction(0), STEP) == 0
    assert timeline.sound(1, 5000 + STEP, STEP) == -5000


@pytest.mark.parametrize(
    ("times", "become"),
    [
        ([0, 10, 20, 30], [0, 10, 20, 30]),
        ([0, 3, 50, 51, 200], [0, 3, 50, 51, 200]),
        ([None, None, None], [0, 10, 20]),
        ([0, 10, 10, 10, 10, 50], [0, 10, 20, 30, 40, 50]),  # the clock stood still
        ([0, 10, 10, 10], [0, 10, 20, 30]),
        ([0, 10, 20, 9999, 40, 50], [0, 10, 20, 30, 40, 50]),
        ([0, 10, 20, 60, 40, 50], [0, 10, 20, 30, 40, 50]),
        ([0, 10, 20, 5, 40, 50], [0, 10, 20, 30, 40, 50]),
        ([0, 10, None, 30], [0, 10, 20, 30]),
        ([0, 10, None, 12, 13], [0, 10, 11, 12, 13]),
        ([0, 0, 0], [0, 10, 20]),
        ([], []),
    ],
)
def test_times_of_frames_always_grow(times: list[int | None], become: list[int]) -> None:
    assert frames(times) == become


def test_a_frame_is_due_after_the_measured_step() -> None:
    assert frames([0, 40, 80, 120, 120, None], duration=1) == [0, 40, 80, 120, 160, 200]


def test_frames_without_any_pts_are_timed_by_dts() -> None:
    guess = Guess(first=0)
    assert [guess.time(None, dts) for dts in (2, 3, 4, None)] == [0, 1, 2, None]


def test_pts_are_used_unless_dts_are_better() -> None:
    guess = Guess(first=0)
    assert [guess.time(pts, dts) for pts, dts in ((0, 0), (2, 1), (4, 2))] == [0, 2, 4]
    guess = Guess(first=0)
    assert [guess.time(pts, dts) for pts, dts in ((0, 0), (0, 1), (0, 2), (0, 3))] == [0, 1, 2, 3]
