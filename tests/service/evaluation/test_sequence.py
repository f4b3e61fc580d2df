"""The input of tracking metrics."""

from __future__ import annotations

import numpy as np
import pytest

from engines.poses import Poses
from engines.skeletons import BLAZEPOSE_33, COCO_17, POSETRACK_15, Skeleton
from service.evaluation import TrackedFrame, compare_poses


def person(skeleton: Skeleton, identity: int | None, moved: float = 0.0) -> Poses:
    """Keypoint k of COCO at (10 k + moved, 0); a box of 100 x 100."""
    order = [COCO_17.keypoints.index(name) if name in COCO_17.keypoints else 0 for name in skeleton.keypoints]
    points = np.stack([10 * np.array(order) + moved, np.zeros(len(order))], axis=1).astype(np.float32)
    ids = None if identity is None else np.array([identity])
    box = np.array([[0, 0, 100, 100]], np.float32)
    return Poses(points[None], np.ones((1, len(order)), np.float32), box, np.ones(1, np.float32), skeleton, ids)


def test_the_similarity_is_oks_over_common_keypoints() -> None:
    distance = 10.0
    frame = compare_poses(person(COCO_17, 3), person(POSETRACK_15, 8, moved=distance))
    shared = [n for n, name in enumerate(COCO_17.keypoints) if name in POSETRACK_15.keypoints]
    expected = np.exp(-(distance**2) / (2 * 100 * 100 * (2 * COCO_17.sigmas[shared]) ** 2)).mean()

    assert (frame.truth.tolist(), frame.found.tolist()) == ([3], [8])
    assert frame.similarity[0, 0] == pytest.approx(expected, abs=1e-6)


def test_only_labelled_keypoints_count() -> None:
    truth, found = person(COCO_17, 1), person(COCO_17, 1)
    truth.keypoint_scores[0, 5] = 0
    found.keypoints[0, 5] = (900, 900)
    assert compare_poses(truth, found).similarity[0, 0] == 1


def test_a_person_without_an_id_counts_as_not_found() -> None:
    frame = compare_poses(person(COCO_17, 1), Poses.join([person(COCO_17, -1), person(COCO_17, 4)]))
    assert (frame.found.tolist(), frame.similarity.shape) == ([4], (1, 1))


def test_poses_must_have_ids_and_common_keypoints() -> None:
    with pytest.raises(ValueError, match="these poses have none"):
        compare_poses(person(COCO_17, 1), person(COCO_17, None))
    nothing_alike = Skeleton("one", ("tail",), (), np.ones(1, np.float32))
    with pytest.raises(ValueError, match="blazepose-33 and one share no keypoint"):
        compare_poses(person(BLAZEPOSE_33, 1), person(nothing_alike, 1))


@pytest.mark.parametrize(
    ("truth", "found", "similarity", "says"),
    [
        ([1, 1], [2], [[0.5], [0.5]], "truth must list each id of the frame once"),
        ([1], [2, 2], [[0.5, 0.5]], "found must list each id of the frame once"),
        ([1], [2], [[0.5, 0.5]], "1 x 1, not 1 x 2"),
        ([1], [2], [[1.5]], "in 0..1"),
        ([1], [2], [[float("nan")]], "in 0..1"),
    ],
)
def test_inconsistent_frames_are_refused(
    truth: list[int], found: list[int], similarity: list[list[float]], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        TrackedFrame(np.array(truth), np.array(found), np.array(similarity))
