"""The built-in skeletons."""

from __future__ import annotations

import numpy as np
import pytest

from engines.skeletons import AP10K_17, COCO_17, COCO_WHOLEBODY_133, FACE_68, HAND_21, HANDS_42, MPII_16, SKELETONS
from engines.skeletons.definition import Skeleton


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=list(SKELETONS))
def test_every_keypoint_has_a_sigma_a_limb_and_a_mirrored_keypoint(skeleton: Skeleton) -> None:
    pairs = {(skeleton.keypoints[a], skeleton.keypoints[b]) for a, b in skeleton.pairs}
    left = {name for name in skeleton.keypoints if name.startswith("left_")}
    assert {(name, name.replace("left_", "right_")) for name in left} <= pairs
    assert len({side for pair in skeleton.pairs for side in pair}) == 2 * len(skeleton.pairs)
    assert len(set(skeleton.keypoints)) == len(skeleton)
    assert skeleton.sigmas.shape == (len(skeleton),)
    assert (skeleton.sigmas > 0).all()
    assert {end for limb in skeleton.limbs for end in limb} == set(range(len(skeleton)))


def test_names_end_in_the_number_of_keypoints() -> None:
    assert all(name.endswith(f"-{len(skeleton)}") for name, skeleton in SKELETONS.items())


def test_mpii_keypoints_have_the_order_of_its_annotations() -> None:
    assert MPII_16.keypoints[6:10] == ("pelvis", "thorax", "upper_neck", "head_top")
    assert MPII_16.pairs == ((3, 2), (4, 1), (5, 0), (13, 12), (14, 11), (15, 10))


def test_a_whole_body_is_made_of_a_body_feet_a_face_and_hands() -> None:
    whole, sigmas = COCO_WHOLEBODY_133.keypoints, COCO_WHOLEBODY_133.sigmas
    assert whole[:17] == COCO_17.keypoints
    assert whole[17:23] == (
        *("left_big_toe", "left_small_toe", "left_heel"),
        *("right_big_toe", "right_small_toe", "right_heel"),
    )
    assert whole[23:91] == FACE_68.keypoints
    assert whole[91:] == HANDS_42.keypoints
    np.testing.assert_array_equal(sigmas[23:], np.concatenate([FACE_68.sigmas, HANDS_42.sigmas]))
    np.testing.assert_array_equal(HANDS_42.sigmas[21:], HAND_21.sigmas)
    assert float(sigmas.sum()) == pytest.approx(3.861, abs=1e-3)  # of the published list
    assert [len(part) for part in COCO_WHOLEBODY_133.parts] == [73, 21, 21]


def test_a_face_is_symmetric() -> None:
    pairs = dict(FACE_68.pairs)
    assert (pairs[16], pairs[26], pairs[45], pairs[54]) == (0, 17, 36, 48)  # ears, brows, eyes, corners of the mouth
    middle = set(range(68)) - {side for pair in FACE_68.pairs for side in pair}
    assert middle == {8, 27, 28, 29, 30, 33, 51, 57, 62, 66}


def test_animals_have_the_order_and_the_sigmas_of_ap10k() -> None:
    assert AP10K_17.keypoints[:5] == ("left_eye", "right_eye", "nose", "neck", "root_of_tail")
    assert AP10K_17.sigmas[AP10K_17.keypoints.index("left_back_paw")] == np.float32(0.089)
