"""The similarity of poses of one frame."""

from __future__ import annotations

import numpy as np
import pytest

from engines.skeletons import COCO_17
from service.tracking.similarity import Observed, between, form, planes
from tests.service.tracking.people import people

SIGMAS = COCO_17.sigmas


def observed(*middles: tuple[float, float]) -> Observed:
    poses = people(middles)
    return Observed.of(poses.keypoints, poses.keypoint_scores, poses.boxes, poses.scores, 0.2)


def test_poses_of_one_frame() -> None:
    seen = observed((100, 100), (101, 100), (200, 100))
    alike = between(seen, np.array([0]), np.array([1, 2]), SIGMAS)
    assert alike.shape == (1, 2)
    assert alike[0, 0] > 0.8
    assert alike[0, 1] == pytest.approx(0, abs=1e-3)


def test_the_form_of_a_pose_depends_on_neither_place_nor_size() -> None:
    small, other = observed((100, 100)).points, observed((300, 40)).points
    other[..., :2] *= 2
    assert form(planes(small), planes(other), SIGMAS)[0] == pytest.approx(1, abs=1e-3)
    other[..., 0] *= -1
    assert form(planes(small), planes(other), SIGMAS)[0] < 0.8
