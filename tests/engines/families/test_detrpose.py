"""The DETRPose family: rows of keypoints, without boxes and suppression, to people in frame pixels."""

from __future__ import annotations

import numpy as np
import pytest

from engines.families.detrpose import DETRPose
from engines.inputs import PixelInput
from engines.skeletons import COCO_17
from tests.drawn import box_of, detrpose
from tests.people import standing

FAMILY = DETRPose(PixelInput(640, 640, std=(255, 255, 255)), COCO_17)


def test_people_are_returned_in_frame_pixels_best_first_from_a_stretched_frame() -> None:
    left, right = standing(150, 300, 400), standing(450, 280, 380)
    outputs = detrpose(640, 640, left, right)
    outputs["scores"][0, 1] = 0.93
    [poses] = FAMILY.decode(outputs, [FAMILY.region(1280, 960)])
    np.testing.assert_allclose(poses.keypoints, [right * (2, 1.5), left * (2, 1.5)], atol=1e-3)
    np.testing.assert_allclose(poses.scores, [0.93, 0.9])
    np.testing.assert_allclose(poses.keypoint_scores[0], 0.93)
    np.testing.assert_allclose(poses.boxes[0] / np.tile([2, 1.5], 2), box_of(right), atol=1e-3)


def test_low_scores_and_other_labels_are_dropped() -> None:
    outputs = detrpose(640, 640, standing(150, 300, 400))
    outputs["labels"][:] = 0
    [poses] = FAMILY.decode(outputs, [FAMILY.region(640, 640)])
    assert len(poses) == 0


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e30, -1e30])
@pytest.mark.parametrize("where", ["scores", "keypoints"])
def test_garbage_is_dropped(garbage: float, where: str) -> None:
    outputs = detrpose(640, 640, standing(150, 300, 400))
    outputs[where][...] = garbage
    [poses] = FAMILY.decode(outputs, [FAMILY.region(640, 640)])
    assert len(poses) == 0
