"""The SimCC family: RTMPose's two classifications, compared with mmpose."""

from __future__ import annotations

import numpy as np
import pytest

from engines.families.simcc import SimCC
from engines.inputs import PixelInput
from engines.ops.keypoint_decoding import decode_simcc
from engines.poses import Detections
from engines.skeletons import COCO_17
from tests.shared import SHARED, needs_shared

PIXELS = PixelInput(256, 192)


def outputs(x: int, y: int, score_x: float = 0.9, score_y: float = 0.6) -> dict[str, np.ndarray]:
    simcc_x, simcc_y = np.zeros((1, 17, 384), np.float32), np.zeros((1, 17, 512), np.float32)
    simcc_x[..., x], simcc_y[..., y] = score_x, score_y
    return {"simcc_x": simcc_x, "simcc_y": simcc_y}


def test_bins_are_half_pixels_and_the_lower_maximum_is_the_score() -> None:
    family = SimCC(PIXELS, COCO_17)
    regions = family.regions(Detections(np.array([[100, 50, 250, 250]], np.float32), np.ones(1, np.float32)))
    poses = family.decode(outputs(192, 256), regions)
    np.testing.assert_allclose(poses.keypoints[0, 0], [175, 150], atol=1e-4)
    np.testing.assert_allclose(poses.keypoint_scores, 0.6)


def test_the_outputs_may_have_other_names() -> None:
    named = outputs(192, 256)
    family = SimCC(PIXELS, COCO_17, names=["across", "down"])
    assert family.outputs == ("across", "down")
    regions = family.regions(Detections(np.array([[100, 50, 250, 250]], np.float32), np.ones(1, np.float32)))
    poses = family.decode({"down": named["simcc_y"], "across": named["simcc_x"]}, regions)
    np.testing.assert_allclose(poses.keypoints[0, 0], [175, 150], atol=1e-4)
    with pytest.raises(ValueError, match="must be two"):
        SimCC(PIXELS, COCO_17, names=["across"])


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 0.0, 1e38])
def test_garbage_gives_finite_poses(garbage: float) -> None:
    family = SimCC(PIXELS, COCO_17)
    found = Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32))
    poses = family.decode(outputs(3, 4, garbage, garbage), family.regions(found))
    assert np.isfinite(poses.keypoints).all()
    assert (poses.scores == 0).all()
    assert len(family.merge(poses, found)) == 0


@needs_shared
def test_bins_and_keypoints_equal_those_of_mmpose() -> None:
    golden = np.load(SHARED / "goldens/decoders/simcc_decode.npz")
    bins, scores = decode_simcc(golden["simcc_x"], golden["simcc_y"])
    np.testing.assert_array_equal(bins, golden["locs"])
    np.testing.assert_allclose(scores, golden["vals"], atol=1e-6)
    family = SimCC(PIXELS, COCO_17)
    people = Detections(golden["box_xyxy"], np.ones(len(golden["box_xyxy"]), np.float32))
    regions = family.regions(people)
    centres = np.array([(r.center_x, r.center_y) for r in regions])
    sizes = np.array([(r.width, r.height) for r in regions])
    np.testing.assert_allclose(centres, golden["center"], atol=1e-4)
    np.testing.assert_allclose(sizes, golden["scale"], rtol=1e-6)
    poses = family.decode({"simcc_x": golden["simcc_x"], "simcc_y": golden["simcc_y"]}, regions)
    # mmpose's own map back to the image; rtmlib's golden differs where only one of the two maxima is above 0
    in_image = golden["keypoints_input"] / (192, 256) * sizes[:, None] + centres[:, None] - sizes[:, None] / 2
    np.testing.assert_allclose(poses.keypoints, in_image, atol=1e-3)
