"""Conversion between skeletons."""

from __future__ import annotations

import numpy as np
import pytest

from engines.skeletons import (
    AP10K_17,
    COCO_17,
    COCO_WHOLEBODY_133,
    FACE_68,
    HALPE_26,
    HAND_21,
    HANDS_42,
    MPII_16,
    POSETRACK_15,
    Skeleton,
    convert_keypoints,
    define,
    derivable,
)


def test_mpii_converts_to_coco_without_a_face() -> None:
    points = np.arange(32, dtype=np.float32).reshape(1, 16, 2)
    new, scores = convert_keypoints(points, np.ones((1, 16), np.float32), MPII_16, COCO_17)
    here = [name in MPII_16.keypoints for name in COCO_17.keypoints]
    np.testing.assert_array_equal(scores[0], here)
    assert sum(here) == 12
    for row, name in enumerate(COCO_17.keypoints):
        if here[row]:
            np.testing.assert_array_equal(new[0, row], points[0, MPII_16.keypoints.index(name)])


def test_a_keypoint_of_another_name_is_preferred_to_a_midpoint() -> None:
    points = np.arange(32, dtype=np.float32).reshape(1, 16, 2)
    new, _ = convert_keypoints(points, np.ones((1, 16), np.float32), MPII_16, POSETRACK_15)
    head_bottom = POSETRACK_15.keypoints.index("head_bottom")
    np.testing.assert_array_equal(new[0, head_bottom], points[0, MPII_16.keypoints.index("upper_neck")])


@pytest.mark.parametrize("target", [COCO_17, FACE_68, HANDS_42])
def test_a_whole_body_has_a_body_a_face_and_hands(target: Skeleton) -> None:
    points = np.random.default_rng(1).normal(size=(2, 133, 2)).astype(np.float32)
    scores = np.linspace(0.1, 1, 133, dtype=np.float32)[None].repeat(2, axis=0)
    new, kept = convert_keypoints(points, scores, COCO_WHOLEBODY_133, target)
    rows = [COCO_WHOLEBODY_133.keypoints.index(name) for name in target.keypoints]
    np.testing.assert_array_equal(new, points[:, rows])
    np.testing.assert_array_equal(kept, scores[:, rows])


def names(source: Skeleton, target: Skeleton) -> set[str]:
    return {name for name, known in zip(target.keypoints, derivable(source, target), strict=True) if known}


def test_what_can_be_derived() -> None:
    assert names(COCO_WHOLEBODY_133, HALPE_26) == set(HALPE_26.keypoints) - {"head"}
    assert names(COCO_17, POSETRACK_15) == set(POSETRACK_15.keypoints) - {"head_top"}
    assert names(POSETRACK_15, COCO_17) == set(COCO_17.keypoints) - {"left_eye", "right_eye", "left_ear", "right_ear"}
    assert "left_wrist" not in names(AP10K_17, COCO_17)
    assert not derivable(HAND_21, COCO_17).any()
    assert not derivable(COCO_17, HANDS_42).any()


def test_a_mapping_says_what_the_keypoints_of_other_skeletons_are() -> None:
    own = define(
        "mine",
        ["a", "b", "c", "left_wrist"],
        mapping={"left_shoulder": ["a"], "right_shoulder": ["b"], "nose": ["a", "c"], "left_wrist": ["c"]},
    )
    points = np.array([[[0, 0], [4, 0], [8, 8], [100, 100]]], np.float32)
    scores = np.array([[0.9, 0.8, 0.7, 0.6]], np.float32)
    new, kept = convert_keypoints(points, scores, own, POSETRACK_15)
    found = {
        name: (*point.tolist(), round(float(score), 1))
        for name, point, score in zip(POSETRACK_15.keypoints, new[0], kept[0], strict=True)
        if score
    }
    assert found == {
        "left_shoulder": (0, 0, 0.9),
        "right_shoulder": (4, 0, 0.8),
        "head_bottom": (2, 0, 0.8),  # between the mapped shoulders
        "nose": (4, 4, 0.7),
        "left_wrist": (8, 8, 0.7),  # as the mapping says, in spite of its own name
    }


def test_no_substitute_lies_between_keypoints_that_lie_between_others_themselves() -> None:
    own = define("mine", ["a", "b"], mapping={"left_shoulder": ["a", "b"], "right_shoulder": ["b"]})
    assert names(own, POSETRACK_15) == {"left_shoulder", "right_shoulder"}
