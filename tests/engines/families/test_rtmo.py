"""The RTMO family: from rows of boxes and keypoints in input pixels to people in frame pixels."""

from __future__ import annotations

import numpy as np
import pytest

from engines.families.rtmo import RTMO
from engines.inputs import PixelInput
from engines.skeletons import COCO_17
from tests.drawn import box_of, rtmo
from tests.people import standing

FAMILY = RTMO(PixelInput(640, 640, "bgr", pad=114), COCO_17)


def test_all_people_are_returned_in_frame_pixels_best_first() -> None:
    left, right = standing(150, 300, 400), standing(450, 280, 380)
    outputs = rtmo(left, right)
    outputs["dets"][0, 1, 4] = 0.95
    [poses] = FAMILY.decode(outputs, [FAMILY.region(1280, 960)])
    np.testing.assert_allclose(poses.keypoints, [2 * right, 2 * left], atol=1e-3)
    np.testing.assert_allclose(poses.boxes, [2 * box_of(right), 2 * box_of(left)], atol=1e-3)
    np.testing.assert_allclose(poses.scores, [0.95, 0.9])
    np.testing.assert_allclose(poses.keypoint_scores, 0.9)


def test_padding_low_scores_and_duplicates_are_dropped() -> None:
    person = standing(150, 300, 400)
    outputs = rtmo(person, person + 5, standing(450, 280, 380))
    outputs["dets"][0, 1, 4] = 0.8
    outputs["dets"][0, 2, 4] = 0.05
    [poses] = FAMILY.decode(outputs, [FAMILY.region(640, 640)])
    np.testing.assert_allclose(poses.keypoints, [person], atol=1e-3)


def test_each_image_of_a_batch_has_its_own_people() -> None:
    one, two = rtmo(standing(150, 300, 400)), rtmo(standing(450, 280, 380))
    both = {name: np.concatenate([one[name], two[name]]) for name in one}
    first, second = FAMILY.decode(both, [FAMILY.region(640, 640)] * 2)
    assert first.keypoints[0, 0, 0] == pytest.approx(150)
    assert second.keypoints[0, 0, 0] == pytest.approx(450)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 0.0, 1e30, -1e30])
@pytest.mark.parametrize("where", ["dets", "keypoints", "both"])
def test_garbage_is_dropped(garbage: float, where: str) -> None:
    outputs = rtmo(standing(150, 300, 400)) if garbage else rtmo()
    for name in outputs if where == "both" else [where]:
        outputs[name][...] = garbage
    [poses] = FAMILY.decode(outputs, [FAMILY.region(640, 640)])
    assert len(poses) == 0
