"""The YOLO-Pose family: from thousands of boxes with keypoints, in three layouts, to a few people."""

from __future__ import annotations

import numpy as np
import pytest

from engines.families.yolo_pose import YOLOPose
from engines.inputs import PixelInput
from engines.skeletons import COCO_17
from tests.drawn import box_of, yolo_pose
from tests.people import standing

PIXELS = PixelInput(640, 640, std=(255.0, 255.0, 255.0), pad=114)
LAYOUTS = ["columns", "rows", "end-to-end"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_best_box_of_each_person_is_returned_in_frame_pixels(layout: str) -> None:
    family = YOLOPose(PIXELS, COCO_17, layout=layout)
    left, right = standing(150, 300, 400), standing(450, 280, 380)
    region = family.region(1280, 960)
    assert region.center_y == 480  # the frame is in the middle of the input: 80 pixels of grey above it
    [poses] = family.decode(yolo_pose(left, right, layout=layout), [region])
    expected = np.stack([left, right]) * 2 - (0, 160)
    np.testing.assert_allclose(poses.keypoints, expected, atol=1e-2)
    np.testing.assert_allclose(poses.boxes, np.stack([box_of(person) for person in expected]), atol=1e-2)
    np.testing.assert_allclose(poses.scores, [0.9, 0.9])


@pytest.mark.parametrize("divided", [False, True])
def test_positions_may_be_relative_to_the_input_and_scores_divided_as_well(divided: bool) -> None:
    person = standing(150, 300, 400)
    outputs = yolo_pose(person, layout="end-to-end")
    rows = outputs["output0"]
    rows[..., :4] /= 640
    points = rows[..., 6:].reshape(*rows.shape[:2], 17, 3)
    points[..., : 3 if divided else 2] /= 640
    rows[..., 6:] = points.reshape(*rows.shape[:2], 51)
    family = YOLOPose(PIXELS, COCO_17, layout="end-to-end", relative=True)
    [poses] = family.decode(outputs, [family.region(640, 640)])
    np.testing.assert_allclose(poses.keypoints, [person], atol=1e-2)
    np.testing.assert_allclose(poses.boxes, [box_of(person)], atol=1e-2)
    np.testing.assert_allclose(poses.keypoint_scores, 0.9, rtol=1e-5)


def test_low_scores_are_dropped() -> None:
    outputs = yolo_pose(standing(150, 300, 400))
    outputs["output0"][:, 4] *= 0.1
    [poses] = YOLOPose(PIXELS, COCO_17).decode(outputs, [YOLOPose(PIXELS, COCO_17).region(640, 640)])
    assert len(poses) == 0


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 0.0, 1e30, -1e30])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_garbage_is_dropped(garbage: float, layout: str) -> None:
    family = YOLOPose(PIXELS, COCO_17, layout=layout)
    values = np.full_like(yolo_pose(standing(150, 300, 400), layout=layout)["output0"], garbage)
    [poses] = family.decode({"o": values}, [family.region(640, 640)])
    assert len(poses) == 0


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="'v8' is not one of columns, rows, end-to-end"):
        YOLOPose(PIXELS, COCO_17, layout="v8")
