"""People who have left are known again by their appearance, and strangers are not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from engines.poses import Frame
from engines.skeletons import COCO_17
from service.tracking import AbsentState, PoseTracker, TrackerConfig
from service.tracking.colours import sides
from service.tracking.gallery import STRANGER, UNDECIDED, Newcomers, recognise
from service.tracking.state import UNCONFIRMED, TrackState
from tests.service.tracking.people import people

WIDTH, HEIGHT = 400, 200
RED, BLUE, GREEN = (200, 40, 30), (30, 50, 190), (40, 160, 60)
Shown = tuple[float, tuple[int, int, int]]
"""The middle of a person in x, and the colour of the clothes."""


def frame(*shown: Shown) -> Frame:
    """A grey frame with people in coloured clothes with white stripes."""
    picture = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    for x, colour in shown:
        left, right = max(int(x) - 30, 0), max(int(x) + 30, 0)
        picture[40:160, left:right] = colour
        picture[60:75, left:right] = 230
    return picture


def show(tracker: PoseTracker, now: float, *shown: Shown) -> list[int]:
    result = tracker.update(people([(x, 100) for x, _ in shown]), frame(*shown), now)
    assert result.ids is not None
    return result.ids.tolist()  # type: ignore[no-any-return]


def walk(tracker: PoseTracker, start: float, seconds: float, *shown: Shown, speed: Sequence[float] = ()) -> list[int]:
    """Show people at ten frames a second. Returns their last ids."""
    ids: list[int] = []
    for n in range(round(seconds * 10)):
        moved = [(x + n / 10 * v, colour) for (x, colour), v in zip(shown, speed or [0] * len(shown), strict=True)]
        ids = show(tracker, start + n / 10, *moved)
    return ids


def left() -> PoseTracker:
    """A tracker whose person 1, in red, has left the picture at 3 s."""
    tracker = PoseTracker(COCO_17)
    assert walk(tracker, 0, 2, (200, RED), (320, GREEN), speed=(-100, 0)) == [1, 2]
    assert walk(tracker, 2, 1, (320, GREEN)) == [2]
    return tracker


def test_who_leaves_and_returns_is_known_again() -> None:
    tracker = left()
    assert [track.id for track in tracker.tracks] == [2]
    walk(tracker, 3, 7, (320, GREEN))
    assert walk(tracker, 10, 1, (320, GREEN), (60, RED)) == [2, 1]
    person = next(track for track in tracker.tracks if track.id == 1)
    assert person.age > 10


def test_a_stranger_who_comes_in_where_somebody_left_is_new() -> None:
    assert walk(left(), 3, 1, (320, GREEN), (30, BLUE), speed=(0, 60)) == [2, 3]


def test_somebody_dressed_like_a_person_in_sight_is_new() -> None:
    tracker = PoseTracker(COCO_17)
    walk(tracker, 0, 2, (200, RED), (320, RED), speed=(-100, 0))
    walk(tracker, 2, 4, (320, RED))
    assert walk(tracker, 6, 1, (320, RED), (60, RED)) == [2, 3]


def test_of_two_people_who_left_alike_neither_returns() -> None:
    tracker = PoseTracker(COCO_17)
    walk(tracker, 0, 2, (100, RED), (300, RED), speed=(-70, 70))
    walk(tracker, 2, 4)
    assert walk(tracker, 6, 1, (200, RED)) == [3]


def test_people_are_forgotten() -> None:
    tracker = PoseTracker(COCO_17, TrackerConfig(forget_seconds=5))
    walk(tracker, 0, 2, (200, RED), speed=(-100,))
    walk(tracker, 2, 6)
    assert walk(tracker, 8, 1, (60, RED)) == [2]
    assert tracker.state().absent is not None
    assert not len(tracker.state().absent or ())


def test_the_number_of_absent_people_is_bounded() -> None:
    tracker = PoseTracker(COCO_17, TrackerConfig(max_absent=2))
    for n in range(4):
        walk(tracker, 10 * n, 2, (200, tuple(np.roll((200, 20 * n, 90), n))), speed=(-100,))
        walk(tracker, 10 * n + 2, 1)
    absent = tracker.state().absent
    assert absent is not None
    assert absent.ids.tolist() == [3, 4]


def test_another_tracker_knows_who_is_absent() -> None:
    tracker = PoseTracker(COCO_17)
    tracker.restore(left().state())
    assert walk(tracker, 8, 1, (320, GREEN), (60, RED)) == [2, 1]


def test_without_pixels_nobody_is_recognised_by_appearance() -> None:
    tracker = PoseTracker(COCO_17, TrackerConfig(lost_seconds=1))
    tracker.update(people([(200, 100)]), None, 0.0)
    for n in range(1, 30):
        tracker.update(people([]), None, n / 10)
    assert tracker.update(people([(60, 100)]), None, 3.0).ids.tolist() == [2]  # type: ignore[union-attr]


@pytest.mark.parametrize("seconds", [0.2, 6.0])
def test_who_returns_to_the_middle_was_only_hidden(seconds: float) -> None:
    tracker = PoseTracker(COCO_17)
    walk(tracker, 0, 2, (200, RED), (320, GREEN))
    walk(tracker, 2, seconds, (320, GREEN))
    assert walk(tracker, 2 + seconds, 1, (320, GREEN), (205, RED)) == [2, 1]


@pytest.mark.parametrize(("forget", "number"), [(60.0, 1), (0.0, 3)])
def test_who_was_lost_from_sight_and_comes_in_elsewhere_is_known_if_looks_are_remembered(
    forget: float, number: int
) -> None:
    tracker = PoseTracker(COCO_17, TrackerConfig(forget_seconds=forget))
    walk(tracker, 0, 2, (340, RED), (200, GREEN))
    walk(tracker, 2, 2, (200, GREEN))
    assert {track.id for track in tracker.tracks} == {1, 2}
    assert walk(tracker, 4, 1, (200, GREEN), (40, RED)) == [2, number]


def test_who_shows_no_colours_waits_for_an_id_and_may_be_missed_once() -> None:
    tracker = left()

    def seen(now: float) -> int:
        poses = people([(60, 100)], keypoint_score=0.4)
        ids = tracker.update(poses, frame((60, BLUE)), now).ids
        assert ids is not None
        return int(ids[0])

    assert [seen(3.0), seen(3.1), seen(3.2)] == [UNCONFIRMED] * 3
    show(tracker, 3.3)
    assert [seen(3.4), seen(3.7), seen(3.9), seen(4.2), seen(4.5)] == [UNCONFIRMED] * 5
    assert seen(4.7) == 3


def decide(
    *, age: float, clothes: float, absent: int = 1, keypoints: int = 17, left: float = 100, wide: int = 50
) -> int:
    """What a newcomer in the middle is taken for, who is brighter above, and by `clothes` less so than the absent.

    left, wide: of the newcomer's box; that of the absent is 50 wide.
    """
    pairs, stripes = sides(COCO_17), np.linspace(0.2, 0.8, 17)[:, None].repeat(3, axis=1)
    known = np.ones((absent, 17, 4), np.float32)
    known[..., :3] = stripes
    known[1:, :, :3] = stripes[::-1]
    box, none = np.array([[100, 50, 150, 150]], np.float32), np.zeros(absent)
    rgb, nothing = np.round(known * 255).astype(np.uint8), np.zeros((absent, 0), np.int8)
    gone = AbsentState(np.arange(1, absent + 1), none, none, box.repeat(absent, axis=0), rgb, nothing)
    looks = np.ones((1, 17, 4), np.float32)
    looks[0, :, :3] = stripes + (0.5 - stripes) * clothes
    looks[0, keypoints:, 3] = 0
    there = np.array([[left, 50, left + wide, 150]], np.float32)
    newcomers = Newcomers(looks, there, np.array([age]), np.zeros((1, 0), np.int8))
    return int(recognise(gone, TrackState.zeros(0, 3, 17), newcomers, 20.0, (400, 200), pairs)[0])


def test_clear_cases_are_decided_at_once_and_others_after_more_looks() -> None:
    assert decide(age=0.0, clothes=0.05) == 0
    assert decide(age=0.0, clothes=2.0) == STRANGER
    early, late = ([decide(age=age, clothes=x) for x in (0.3, 0.4, 0.5, 0.6, 0.8)] for age in (0.0, 1.0))
    assert UNDECIDED in early
    assert UNDECIDED not in late
    assert late == sorted(late, reverse=True)  # the less alike, the less is somebody taken for the absent person


def test_the_more_people_are_absent_the_more_evidence_a_return_needs() -> None:
    grades = np.linspace(0.1, 1, 19).tolist()
    alone, among_many = (sum(decide(age=1.0, clothes=x, absent=n) == 0 for x in grades) for n in (1, 60))
    assert 0 < among_many < alone


def test_few_keypoints_are_looked_at_for_longer_and_are_no_evidence() -> None:
    assert decide(age=0.0, clothes=0.0, keypoints=1) == UNDECIDED
    assert decide(age=1.0, clothes=0.0, keypoints=1) == UNDECIDED
    assert decide(age=2.0, clothes=0.0, keypoints=1) == STRANGER


def test_what_the_border_cuts_off_of_somebody_does_not_count_against_them() -> None:
    grades = np.linspace(0.1, 1, 19).tolist()
    cut, narrow = (sum(decide(age=1.0, clothes=x, left=left, wide=10) == 0 for x in grades) for left in (0, 120))
    assert narrow < cut
