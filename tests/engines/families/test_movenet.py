"""The MoveNet family: from six rows in 0..1 of the input to people in frame pixels."""

from __future__ import annotations

import numpy as np
import pytest

from engines.families.movenet import MoveNet
from engines.inputs import PixelInput
from engines.skeletons import HALPE_26
from tests.drawn import box_of, movenet
from tests.people import standing

PIXELS = PixelInput(256, 320)
FAMILY = MoveNet(PIXELS)


def test_relative_coordinates_become_frame_pixels() -> None:
    left, right = standing(80, 120, 180), standing(230, 130, 160)
    region = FAMILY.region(640, 480)
    assert (region.width, region.height) == (640, 512)  # the frame, and grey below
    [poses] = FAMILY.decode(movenet(320, 256, left, right), [region])
    np.testing.assert_allclose(poses.keypoints, [2 * left, 2 * right], atol=1e-3)
    np.testing.assert_allclose(poses.boxes, [2 * box_of(left), 2 * box_of(right)], atol=1e-3)
    np.testing.assert_allclose(poses.scores, [0.9, 0.9])
    np.testing.assert_allclose(poses.keypoint_scores, 0.9)


def test_empty_rows_and_duplicates_are_dropped() -> None:
    person = standing(80, 120, 180)
    [poses] = FAMILY.decode(movenet(320, 256, person, person + 1), [FAMILY.region(320, 256)])
    assert len(poses) == 1
    [nobody] = FAMILY.decode(movenet(320, 256), [FAMILY.region(320, 256)])
    assert len(nobody) == 0


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 0.0, 1e30, -1e30])
def test_garbage_is_dropped(garbage: float) -> None:
    [poses] = FAMILY.decode({"o": np.full((1, 6, 56), garbage, np.float32)}, [FAMILY.region(320, 256)])
    assert len(poses) == 0


def test_other_skeletons_are_refused() -> None:
    with pytest.raises(ValueError, match="halpe-26"):
        MoveNet(PIXELS, HALPE_26)
