"""The MoveNet families: from rows in 0..1 of the input to people in frame pixels, for six and for one in each crop."""

from __future__ import annotations

import numpy as np
import pytest

from engines.families.movenet import MoveNet, MoveNetSingle
from engines.inputs import PixelInput
from engines.poses import Detections, Region
from engines.skeletons import COCO_17, HALPE_26
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
    for family in (MoveNet, MoveNetSingle):
        with pytest.raises(ValueError, match="halpe-26"):
            family(PIXELS, HALPE_26)


def test_the_person_of_each_crop_is_placed_in_the_frame() -> None:
    family = MoveNetSingle(PixelInput(256, 256), COCO_17)
    people = standing(128, 120, 180), standing(120, 140, 150)
    rows = np.stack([np.column_stack([person[:, ::-1] / 256, np.full(17, 0.8)]) for person in people])
    outputs = {"Identity": rows[:, None].astype(np.float32)}
    poses = family.decode(outputs, [Region(128, 128, 256, 256), Region(100, 100, 128, 128)])
    np.testing.assert_allclose(poses.keypoints, np.stack([people[0], people[1] / 2 + 36]), atol=1e-3)
    boxes = np.array([(0, 0, 200, 200), (50, 50, 150, 150)], np.float32)
    merged = family.merge(poses, Detections(boxes, np.array([0.2, 0.5], np.float32)))
    np.testing.assert_allclose(np.sort(merged.scores), np.sqrt([0.8 * 0.2, 0.8 * 0.5]), rtol=1e-5)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e30, -1e30])
def test_garbage_of_a_crop_scores_nothing(garbage: float) -> None:
    family = MoveNetSingle(PixelInput(256, 256), COCO_17)
    poses = family.decode({"o": np.full((1, 1, 17, 3), garbage, np.float32)}, [Region(128, 128, 256, 256)])
    assert np.isfinite(poses.keypoints).all()
    assert not poses.scores.any()
