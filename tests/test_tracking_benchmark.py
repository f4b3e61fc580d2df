"""The tracking benchmark: what it counts, and floors of its figures on real video, in a short form."""

from __future__ import annotations

from functools import cache
from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.poses import Poses
from engines.skeletons import COCO_17
from service.tracking import TrackerConfig
from tests.benchmarks.returns.__main__ import CONFIGS, ReturnTracker, judge, make_scenes, watch
from tests.benchmarks.tracking.contenders import Contender, ours
from tests.benchmarks.tracking.figures import Figures, figures
from tests.benchmarks.tracking.regimes import REGIMES, Video
from tests.benchmarks.tracking.sequences import RealSequence, read_mot
from tests.shared import SHARED, needs_shared

pytestmark = pytest.mark.slow

FPS = 10.0
MOST_VIDEOS = 2
"""Of each sequence and regime: the short form."""
FLOORS = {
    "all frames": (85.0, 80.0),
    "every third": (84.0, 74.0),
    "about 1.8 fps": (83.0, 75.0),
    "a fifth dropped": (73.0, 60.0),
    "camera covered for 1 s": (86.0, 78.0),
}
"""IDF1 and MOTA in percent; one to four points below what was measured."""


def two_people(seen: tuple[list[int], list[int]]) -> Video:
    """Two people side by side; each is found in the frames that are listed for them."""
    frames = 1 + max(max(there) for there in seen)
    people, truth = [], []
    for n in range(frames):
        found = [person for person in (0, 1) if n in seen[person]]
        count, k = len(found), len(COCO_17)
        boxes = np.array([[200 * p, 0, 200 * p + 50, 100] for p in found], np.float32).reshape(count, 4)
        points = np.zeros((count, k, 2), np.float32), np.ones((count, k), np.float32)
        people.append(Poses(*points, boxes, np.ones(count, np.float32), COCO_17))
        truth.append((np.array([10, 11]), np.eye(2)[:, found]))
    return Video.of(RealSequence.of("two", FPS, [], people, truth))


def given(video: Video, *numbers: list[int]) -> list[NDArray[np.int64]]:
    """Ids by frame, for the people who are found there."""
    assert [len(rows) for rows in video.rows] == [len(row) for row in numbers]
    return [np.array(row, np.int64) for row in numbers]


def test_an_id_that_goes_to_another_person_for_long_is_given_to_a_stranger() -> None:
    video = two_people((list(range(20)), list(range(20))))
    swapped = given(video, *[[1, 2]] * 10, *[[2, 1]] * 10)
    assert figures(video, swapped, 0.0).strangers == 2
    briefly = given(video, *[[1, 2]] * 8, *[[2, 1]] * 4, *[[1, 2]] * 8)
    assert figures(video, briefly, 0.0).strangers == 0


def test_a_return_is_recognised_new_or_mistaken() -> None:
    first = [*range(5), *range(15, 20)]
    video = two_people((first, list(range(20))))
    for after, recognised, mistaken in ((1, 1, 0), (3, 0, 0), (-1, 0, 0), (2, 0, 1)):
        other = 4 if after == 2 else 2
        rows = [[1, 2]] * 5 + [[2]] * 10 + [[-1, other]] + [[after, other]] * 4
        measured = figures(video, given(video, *rows), 0.0)
        assert (measured.returns, measured.recognised, measured.mistaken) == (1, recognised, mistaken)


def test_a_gap_of_a_frame_is_no_return() -> None:
    video = two_people(([0, 1, 2, 4, 5], list(range(6))))
    assert figures(video, given(video, *[[1, 2]] * 3, [2], *[[1, 2]] * 2), 0.0).returns == 0


def test_ids_that_fit_are_perfect_and_who_is_hidden_does_not_count() -> None:
    [video] = REGIMES["one person hidden for 1 s"](two_people((list(range(40)), list(range(1)))).sequence)
    right = [np.where(rows == 0, 1, 2) for rows in video.rows]
    assert {len(rows) for rows in video.rows[15:25]} == {0}
    measured = figures(video, right, 0.0)
    assert (measured.clear.switches, measured.returns, measured.recognised) == (0, 1, 1)
    assert measured.clear.misses == 40 - 1  # the other person, except in the first frame


def test_each_regime_gives_videos_whose_arrays_fit() -> None:
    sequence = two_people((list(range(100)), list(range(100)))).sequence
    for name, regime in REGIMES.items():
        videos = list(regime(sequence))
        assert videos, name
        for video in videos:
            lengths = (video.frames, video.times, video.rows, video.covered, video.shrunk, video.hidden)
            assert {len(column) for column in lengths} == {len(video)}, name
            assert (np.diff(video.times) > 0).all(), name
            assert [len(poses) for poses in video.people()] == [len(rows) for rows in video.rows], name


@cache
def sequences() -> tuple[RealSequence, ...]:
    return tuple(read_mot(folder) for folder in sorted((SHARED / "data/tracking").glob("*/")))


def measured(contender: Contender, regime: str, most: int = MOST_VIDEOS) -> Figures:
    videos = [v for sequence in sequences() for v in islice(REGIMES[regime](sequence), most)]
    [tracked] = contender.track(contender.grid, videos)
    each = [figures(video, one.ids, one.seconds) for video, one in zip(videos, tracked, strict=True)]
    return sum(each, start=Figures())


@needs_shared
@pytest.mark.parametrize("regime", FLOORS)
def test_identities_on_real_video_reach_their_floors(regime: str) -> None:
    row = measured(ours()[0], regime).row()
    idf1, mota = FLOORS[regime]
    assert row["IDF1"] >= idf1
    assert row["MOTA"] >= mota
    assert row["strangers"] <= 1 * MOST_VIDEOS


@needs_shared
def test_joining_after_the_fact_changes_little_where_the_tracker_knows_people_again() -> None:
    live, offline = (measured(contender, "a fifth dropped", 1) for contender in ours()[:2])
    assert offline.identity.idf1 >= live.identity.idf1 - 0.005


@needs_shared
def test_ids_of_real_people_who_return_are_theirs_or_new() -> None:
    scenes = list(make_scenes(tune=True, count=2))
    outcome = judge(scenes, [watch(scene, [ReturnTracker("posewire", *CONFIGS["posewire"])])[0] for scene in scenes])
    assert outcome.returns == outcome.strangers == 2
    assert outcome.mistaken_returns + outcome.mistaken_strangers <= 1
    assert outcome.identity.idf1 >= 0.75


def test_the_benchmark_uses_the_defaults() -> None:
    assert ours()[0].grid == [{"config": TrackerConfig(), "pixels": True}]
