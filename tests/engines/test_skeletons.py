"""The definitions of skeletons, and conversion between them."""

from __future__ import annotations

import numpy as np
import pytest

from engines.skeletons import COCO_17, MPII_16, POSETRACK_15, SKELETONS, Skeleton, convert_keypoints


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=list(SKELETONS))
def test_every_keypoint_has_a_sigma_a_limb_and_a_mirrored_keypoint(skeleton: Skeleton) -> None:
    left = [name for name in skeleton.keypoints if name.startswith("left_")]
    assert [(skeleton.keypoints[a], skeleton.keypoints[b]) for a, b in skeleton.pairs] == [
        (name, name.replace("left_", "right_")) for name in left
    ]
    assert len(set(skeleton.keypoints)) == len(skeleton)
    assert skeleton.sigmas.shape == (len(skeleton),)
    assert (skeleton.sigmas > 0).all()
    assert {end for limb in skeleton.limbs for end in limb} == set(range(len(skeleton)))


def test_mpii_keypoints_have_the_order_of_its_annotations() -> None:
    assert MPII_16.keypoints[6:10] == ("pelvis", "thorax", "upper_neck", "head_top")
    assert MPII_16.pairs == ((3, 2), (4, 1), (5, 0), (13, 12), (14, 11), (15, 10))


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
