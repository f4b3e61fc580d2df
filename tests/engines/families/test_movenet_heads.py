"""The movenet_heads families: MoveNet's decoding of its heads, for one person and for all, in frame pixels."""

from __future__ import annotations

import numpy as np
import pytest

from engines.families.movenet_heads import MultiPoseHeads, SinglePoseHeads
from engines.inputs import PixelInput
from engines.poses import Detections, Region
from engines.skeletons import COCO_17, HALPE_26
from tests import drawn
from tests.drawn import Outputs
from tests.people import standing

CROP = PixelInput(256, 256)
FRAME = PixelInput(256, 320)
WHOLE = Region(128, 128, 256, 256)


def joined(*outputs: Outputs) -> Outputs:
    return {name: np.concatenate([one[name] for one in outputs]) for name in outputs[0]}


def test_a_crop_shows_the_person_with_a_tenth_of_padding() -> None:
    family = SinglePoseHeads(CROP, COCO_17)
    found = Detections(np.array([(100, 50, 130, 250)], np.float32), np.array([0.5], np.float32))
    [region] = family.regions(found)
    assert (region.center_x, region.center_y) == (115, 150)
    assert [region.width, region.height] == pytest.approx([220, 220])
    poses = family.decode(drawn.movenet_heads(256, 256, standing(128, 128, 200)), [region])
    merged = family.merge(poses, found)
    np.testing.assert_allclose(merged.boxes, found.boxes)
    np.testing.assert_allclose(merged.scores, [np.sqrt(0.5 * drawn.SCORE)], rtol=1e-5)


def test_two_boxes_of_one_person_give_one_pose_and_neighbours_stay() -> None:
    family = SinglePoseHeads(CROP, COCO_17)
    boxes = np.array([(0, 0, 100, 200), (10, 0, 140, 200), (60, 0, 160, 200)], np.float32)
    found = Detections(boxes, np.array([0.5, 0.7, 0.4], np.float32))
    outputs = drawn.movenet_heads(256, 256, standing(128, 128, 200))
    regions = [WHOLE, Region(130, 128, 256, 256), Region(190, 128, 256, 256)]
    merged = family.merge(family.decode(joined(outputs, outputs, outputs), regions), found)
    np.testing.assert_array_equal(merged.boxes, boxes[1:])


def test_the_person_in_the_middle_of_each_crop_is_found() -> None:
    middle, side, other = standing(128, 120, 180), standing(40, 130, 180), standing(120, 140, 150)
    family = SinglePoseHeads(CROP, COCO_17)
    outputs = joined(drawn.movenet_heads(256, 256, side, middle), drawn.movenet_heads(256, 256, other))
    poses = family.decode(outputs, [WHOLE, Region(100, 100, 128, 128)])
    np.testing.assert_allclose(poses.keypoints[0], middle, atol=1e-3)
    np.testing.assert_allclose(poses.keypoints[1], other / 2 + 36, atol=1e-3)
    np.testing.assert_allclose(poses.keypoint_scores, drawn.SCORE, rtol=1e-5)


def test_a_keypoint_is_the_likeliest_cell_near_its_guess() -> None:
    person = standing(128, 120, 180)
    outputs = drawn.movenet_heads(256, 256, person)
    outputs["keypoints"][0, 2, 2, 0] = 9.0  # surer, but far from the guess
    [nose, *_] = SinglePoseHeads(CROP, COCO_17).decode(outputs, [WHOLE]).keypoints[0]
    np.testing.assert_allclose(nose, person[0], atol=1e-3)


def test_everybody_is_found_in_each_frame_of_a_batch() -> None:
    left, right = standing(80, 120, 180), standing(230, 130, 160)
    family = MultiPoseHeads(FRAME)
    region = family.region(640, 480)
    outputs = joined(drawn.movenet_heads(320, 256, left, right), drawn.movenet_heads(320, 256, right))
    both, one = family.decode(outputs, [region, region])
    np.testing.assert_allclose(both.keypoints, [2 * left, 2 * right], atol=1e-2)
    np.testing.assert_allclose(both.boxes, [2 * drawn.box_of(left), 2 * drawn.box_of(right)], atol=1e-2)
    np.testing.assert_allclose(both.scores, drawn.SCORE**2, rtol=1e-5)
    np.testing.assert_allclose(both.keypoint_scores, drawn.SCORE, rtol=1e-5)
    np.testing.assert_allclose(one.keypoints, [2 * right], atol=1e-2)


def test_a_keypoint_outside_of_the_box_of_its_person_is_not_taken() -> None:
    person = standing(160, 130, 180)
    outputs = drawn.movenet_heads(320, 256, person)
    outputs["keypoints"][0, 30, 75, 0] = 9.0  # beside the person
    [poses] = MultiPoseHeads(FRAME).decode(outputs, [MultiPoseHeads(FRAME).region(320, 256)])
    np.testing.assert_allclose(poses.keypoints, [person], atol=1e-2)


def test_the_number_of_people_and_their_scores_are_bounded() -> None:
    people = [standing(60 + 100 * n, 130, 100) for n in range(3)]
    outputs = drawn.movenet_heads(320, 256, *people)
    region = MultiPoseHeads(FRAME).region(320, 256)
    assert len(MultiPoseHeads(FRAME, most=2).decode(outputs, [region])[0]) == 2
    assert len(MultiPoseHeads(FRAME, min_score=0.95).decode(outputs, [region])[0]) == 0


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 0.0, 1e30, -1e30])
@pytest.mark.parametrize("where", ["keypoints", "guesses", "offsets", "box_sizes", "all"])
def test_garbage_gives_finite_poses(garbage: float, where: str) -> None:
    outputs = drawn.movenet_heads(256, 256, standing(128, 120, 180))
    spoilt = {
        name: np.full_like(array, garbage) if where in (name, "all") else array for name, array in outputs.items()
    }
    single = SinglePoseHeads(CROP, COCO_17).decode(spoilt, [WHOLE])
    [multi] = MultiPoseHeads(CROP).decode(spoilt, [WHOLE])
    for poses in (single, multi):
        assert np.isfinite(poses.keypoints).all()
        assert ((poses.keypoint_scores >= 0) & (poses.keypoint_scores <= 1)).all()


def test_other_skeletons_are_refused() -> None:
    with pytest.raises(ValueError, match="halpe-26"):
        SinglePoseHeads(CROP, HALPE_26)
    with pytest.raises(ValueError, match="halpe-26"):
        MultiPoseHeads(CROP, HALPE_26)
