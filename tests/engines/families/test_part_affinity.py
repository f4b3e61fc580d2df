"""The part affinity family, on synthetic maps as the paper defines them."""

from __future__ import annotations

import numpy as np
import pytest

from engines.families.part_affinity import PartAffinity
from engines.inputs import PixelInput
from engines.ops.oks import oks
from engines.poses import Floats, Region
from engines.skeletons import COCO_17, POSETRACK_15
from tests.drawn import Outputs, part_affinity
from tests.people import standing

PIXELS = PixelInput(256, 456, "bgr")
FAMILY = PartAffinity(PIXELS)
WHOLE = Region(228, 128, 456, 256)
HEAT, FIELDS = FAMILY.outputs


def draw(*people: Floats) -> Outputs:
    """The outputs of a perfect network for these people."""
    return part_affinity(PIXELS.width, PIXELS.height, *people)


def test_two_people_side_by_side_keep_their_limbs() -> None:
    left, right = standing(150, 128, 220), standing(240, 124, 210)
    [poses] = FAMILY.decode(draw(left, right), [WHOLE])
    alike = oks(np.stack([left, right]), poses.keypoints, np.full(2, 9000.0), COCO_17.sigmas)
    assert sorted(alike.argmax(axis=1)) == [0, 1]
    assert (alike.max(axis=1) > 0.9).all()
    assert (poses.scores > 0.7).all()


def test_keypoints_are_in_pixels_of_the_frame() -> None:
    person = standing(228, 128, 220)
    region = FAMILY.region(912, 512)
    [poses] = FAMILY.decode(draw(person), [region])
    np.testing.assert_allclose(poses.keypoints[0], 2 * person, atol=5)


def test_a_keypoint_without_a_limb_belongs_to_no_person() -> None:
    outputs = draw(standing(228, 128, 220))
    outputs[FIELDS][0, 24:26] = 0  # left elbow to left wrist
    [poses] = FAMILY.decode(outputs, [WHOLE])
    assert poses.keypoint_scores[0, 9] == 0
    assert (np.delete(poses.keypoint_scores[0], 9) > 0.5).all()
    x1, y1, x2, y2 = poses.boxes[0]
    assert x1 < poses.keypoints[0, 9, 0] < x2
    assert y1 < poses.keypoints[0, 9, 1] < y2


def test_a_field_that_points_the_other_way_joins_nothing() -> None:
    outputs = draw(standing(228, 128, 220))
    outputs[FIELDS] *= -1
    [poses] = FAMILY.decode(outputs, [WHOLE])
    assert len(poses) == 0


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 0.0, 1e30, -1e30])
@pytest.mark.parametrize("where", [HEAT, FIELDS, "both"])
def test_garbage_is_dropped(garbage: float, where: str) -> None:
    outputs = draw(standing(228, 128, 220))
    for name in outputs if where == "both" else [where]:
        outputs[name][...] = garbage
    [poses] = FAMILY.decode(outputs, [WHOLE])
    assert len(poses) == 0


def test_other_skeletons_are_refused() -> None:
    with pytest.raises(ValueError, match="posetrack-15"):
        PartAffinity(PIXELS, POSETRACK_15)
    with pytest.raises(ValueError, match=r"upsample 0 is not one of 1..8"):
        PartAffinity(PIXELS, upsample=0)
