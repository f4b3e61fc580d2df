"""The similarity of pairs of people and poses."""

from __future__ import annotations

import numpy as np
import pytest

from engines.ops.oks import oks
from engines.skeletons import COCO_17
from service.tracking.similarity import Observed, Pairs, between, in_sight, out_of_sight
from service.tracking.state import TrackState
from tests.service.tracking.people import people

SIGMAS = COCO_17.sigmas


def observed(*middles: tuple[float, float]) -> Observed:
    poses = people(middles)
    return Observed.of(poses.keypoints, poses.keypoint_scores, poses.boxes, poses.scores, 0.2)


def remembered(*middles: tuple[float, float]) -> TrackState:
    """People who were just seen, once each."""
    seen = observed(*middles)
    tracks = TrackState.zeros(len(middles), 3, len(COCO_17))
    tracks.poses[:, 0], tracks.boxes[:] = seen.points, seen.boxes
    return tracks


def value(pairs: Pairs, track: int = 0, pose: int = 0) -> float:
    found = pairs.similarity[(pairs.tracks == track) & (pairs.poses == pose)]
    return float(found[0]) if len(found) else 0.0


def test_in_sight_it_is_oks() -> None:
    """Uses the area of a person instead of the box, and lowers the similarity of poses with low scores."""
    moved = value(in_sight(remembered((100, 100)), np.ones(1, np.float32), observed((103, 100)), SIGMAS))
    poses = people([(100, 100), (103, 100)])
    area = np.array([44 * 104 * 0.6])
    expected = oks(poses.keypoints[:1].astype(float), poses.keypoints[1:].astype(float), area, SIGMAS)
    assert moved == pytest.approx(expected[0, 0] * (0.8 + 0.2 * 0.9), abs=1e-3)


def test_the_best_pose_of_the_queue_is_used() -> None:
    tracks = remembered((100, 100))
    tracks.poses[:, 1] = tracks.poses[:, 0]
    tracks.poses[0, 0, :, 0] += 40  # the last pose was wrong
    held = np.full(1, 1e6, np.float32)  # motion has no weight
    assert value(in_sight(tracks, held, observed((100, 100)), SIGMAS)) > 0.9


def test_motion_decides_without_flow() -> None:
    tracks = remembered((100, 100))
    tracks.drifts[:] = 20, 0  # flow has left them behind by 20 pixels
    there, here = observed((120, 100)), observed((100, 100))
    alone = np.zeros(1, np.float32)
    assert value(in_sight(tracks, alone, there, SIGMAS)) > 0.9 > value(in_sight(tracks, alone, here, SIGMAS))


def test_distant_people_are_no_pair() -> None:
    pairs = in_sight(remembered((100, 100), (400, 100)), np.ones(2, np.float32), observed((105, 100)), SIGMAS)
    assert pairs.tracks.tolist() == [0]


def test_the_tolerance_grows_with_absence() -> None:
    tracks, seen = remembered((100, 100)), observed((170, 100))
    values = [value(out_of_sight(tracks, np.array([absent]), seen, SIGMAS)) for absent in (0.1, 1.0, 5.0)]
    assert values == sorted(values)
    assert values[0] < 0.2 < 0.5 < values[2]


def test_out_of_sight_people_of_another_size_are_dissimilar() -> None:
    tracks, seen = remembered((100, 100)), observed((100, 100))
    small = Observed(seen.points, seen.boxes, seen.areas / np.float32(9), seen.scores)
    absent = np.array([1.0])
    assert value(out_of_sight(tracks, absent, small, SIGMAS)) < 0.3 * value(out_of_sight(tracks, absent, seen, SIGMAS))


def test_poses_of_one_frame() -> None:
    seen = observed((100, 100), (101, 100), (200, 100))
    alike = between(seen, np.array([0]), np.array([1, 2]), SIGMAS)
    assert alike.shape == (1, 2)
    assert alike[0, 0] > 0.8
    assert alike[0, 1] == pytest.approx(0, abs=1e-3)
