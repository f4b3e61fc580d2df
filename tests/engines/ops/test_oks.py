"""Object keypoint similarity, by hand and against COCO's own evaluation."""

from __future__ import annotations

import numpy as np

from engines.ops.oks import oks
from tests.shared import SHARED, needs_shared

SIGMAS = np.array([0.05, 0.1])
AREA = np.array([400.0])
ORIGIN = np.zeros((1, 2, 2))


def away(*distances: float) -> np.ndarray:
    """A pose whose keypoints are at these distances from ORIGIN's."""
    return np.array([[(distance, 0.0) for distance in distances]])


def test_a_pose_has_similarity_1_to_itself() -> None:
    poses = np.random.default_rng(0).uniform(0, 100, (3, 2, 2))
    similarity = oks(poses, poses, np.full(3, 400.0), SIGMAS)
    np.testing.assert_array_equal(np.diag(similarity), 1)
    assert (similarity < 0.99).sum() == 6


def test_each_keypoint_has_its_own_tolerance() -> None:
    # (2 sigma)² area is 4 and 16, so 2 and 4 pixels are one standard deviation each
    np.testing.assert_allclose(oks(ORIGIN, away(2, 4), AREA, SIGMAS), np.exp(-0.5))
    np.testing.assert_allclose(oks(ORIGIN, away(0, 4), AREA, SIGMAS), (1 + np.exp(-0.5)) / 2)


def test_the_area_is_that_of_the_first_poses() -> None:
    poses = np.concatenate([ORIGIN, away(2, 4)])
    similarity = oks(poses, poses, np.array([400.0, 1600.0]), SIGMAS)
    np.testing.assert_allclose(similarity, [[1, np.exp(-0.5)], [np.exp(-0.125), 1]])


def test_keypoints_are_weighted() -> None:
    far = away(0, 1000)
    np.testing.assert_allclose(oks(ORIGIN, far, AREA, SIGMAS, np.array([[1.0, 0.0]])), 1)
    np.testing.assert_allclose(oks(ORIGIN, far, AREA, SIGMAS, np.array([[3.0, 1.0]])), 0.75)
    np.testing.assert_allclose(oks(ORIGIN, far, AREA, SIGMAS, np.zeros((1, 2))), 0)


def test_without_area_only_equal_poses_are_similar() -> None:
    poses = np.concatenate([ORIGIN, away(1, 1)]).astype(np.float32)
    np.testing.assert_array_equal(oks(poses, poses, np.zeros(2, np.float32), SIGMAS), np.eye(2))


def test_the_precision_is_that_of_the_poses() -> None:
    assert oks(ORIGIN.astype(np.float32), away(2, 4).astype(np.float32), AREA, SIGMAS).dtype == np.float32
    assert oks(ORIGIN, away(2, 4), AREA, SIGMAS).dtype == np.float64


def test_no_poses_give_an_empty_matrix() -> None:
    assert oks(ORIGIN[:0], ORIGIN, AREA[:0], SIGMAS).shape == (0, 1)
    assert oks(ORIGIN, ORIGIN[:0], AREA, SIGMAS).shape == (1, 0)


@needs_shared
def test_it_equals_cocos_evaluation() -> None:
    with np.load(SHARED / "goldens/metrics/oks_pairs.npz") as golden:
        some = golden["gt_num_visible"] > 0  # COCO uses the box if a person has no keypoints
        truth, found = golden["gt_keypoints"][some], golden["dt_keypoints"][some]
        areas, sigmas, expected = golden["gt_area"][some], golden["sigmas"], golden["oks"][some]
    similarity = oks(truth[..., :2], found[..., :2], areas, sigmas, (truth[..., 2] > 0).astype(float))
    np.testing.assert_allclose(np.diag(similarity), expected, rtol=0, atol=1e-9)
