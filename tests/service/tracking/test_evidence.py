"""The evidence that a pose is a known person."""

from __future__ import annotations

import numpy as np
import pytest

from engines.poses import Floats
from engines.skeletons import COCO_17
from service.tracking.colours import Appearance
from service.tracking.evidence import between
from service.tracking.similarity import Observed
from service.tracking.state import TrackState
from tests.service.tracking.people import people

SIGMAS = COCO_17.sigmas
NO_FLOW = np.zeros(1, np.float32)


def observed(*middles: tuple[float, float]) -> Observed:
    poses = people(middles)
    return Observed.of(poses.keypoints, poses.keypoint_scores, poses.boxes, poses.scores, 0.2)


def remembered(*middles: tuple[float, float], colour: float | None = None) -> TrackState:
    """People who were seen once, in grey clothes if `colour` is given, 0..1."""
    seen = observed(*middles)
    tracks = TrackState.zeros(len(middles), 3, len(COCO_17))
    tracks.poses[:, 0], tracks.boxes[:] = seen.points, seen.boxes
    if colour is not None:
        tracks.colours[:] = [colour, colour, colour, 1]
    return tracks


def evidence(
    tracks: TrackState,
    seen: Observed,
    *,
    unseen: float = 0.1,
    held: Floats = NO_FLOW,
    appearance: Appearance | None = None,
) -> float:
    pairs, _ = between(tracks, held, np.array([unseen]), seen, appearance, SIGMAS)
    return float(pairs.similarity[0]) if len(pairs.similarity) else -np.inf


def test_it_falls_with_distance_and_with_time() -> None:
    tracks = remembered((100, 100))
    values = [evidence(tracks, observed((100 + x, 100))) for x in (0, 10, 30, 60)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 5
    assert evidence(tracks, observed((100, 100)), unseen=2.0) < values[0]


def test_the_tolerance_grows_with_absence() -> None:
    tracks, seen = remembered((100, 100)), observed((170, 100))
    assert evidence(tracks, seen, unseen=0.1) < -4 < evidence(tracks, seen, unseen=2.0)


def test_the_best_pose_of_the_queue_is_used() -> None:
    tracks, seen = remembered((100, 100)), observed((100, 100))
    tracks.poses[0, 0, :, 0] += 40  # the last pose was wrong
    alone = evidence(tracks, seen)
    tracks.poses[0, 1] = seen.points[0]
    assert evidence(tracks, seen) > alone + 1


def test_motion_decides_without_flow() -> None:
    tracks = remembered((100, 100))
    tracks.drifts[:] = 20, 0  # flow has left them behind by 20 pixels
    assert evidence(tracks, observed((120, 100))) > evidence(tracks, observed((100, 100))) + 2
    held = np.ones(1, np.float32)
    assert evidence(tracks, observed((100, 100)), held=held) > evidence(tracks, observed((100, 100)))


def test_people_of_another_size_are_other_people() -> None:
    tracks, seen = remembered((100, 100)), observed((100, 100))
    small = Observed(seen.points, seen.boxes, seen.areas / np.float32(9), seen.scores)
    assert evidence(tracks, small) < evidence(tracks, seen) - 4


@pytest.mark.parametrize("unseen", [1.0, 3.0])
def test_appearance_counts_for_people_who_were_away(unseen: float) -> None:
    tracks, seen = remembered((100, 100), colour=0.3), observed((140, 100))
    known = np.ones((1, len(COCO_17)), np.bool_)
    stripes = np.where(np.arange(len(COCO_17)) % 2, 0.1, 0.9)[None, :, None]
    same = Appearance(np.full((1, len(COCO_17), 3), 0.3, np.float32), known)
    other = Appearance(np.broadcast_to(stripes, same.rgb.shape).astype(np.float32), known)
    without = evidence(tracks, seen, unseen=unseen)
    with_same = evidence(tracks, seen, unseen=unseen, appearance=same)
    assert with_same > without + 1 > without - 1 > evidence(tracks, seen, unseen=unseen, appearance=other)


def test_distant_people_are_no_pair() -> None:
    tracks = remembered((100, 100), (600, 100))
    pairs, cues = between(tracks, np.zeros(2, np.float32), np.full(2, 0.1), observed((105, 100)), None, SIGMAS)
    assert pairs.tracks.tolist() == [0]
    assert len(cues.oks) == 1
