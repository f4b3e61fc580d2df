"""The RTMW3D family: a third classification gives each keypoint a depth, and the bones the scale."""

from __future__ import annotations

import numpy as np
import pytest

from engines.families.simcc_3d import SimCC3D
from engines.inputs import PixelInput
from engines.poses import Detections, Floating
from engines.skeletons import COCO_17, SKELETONS, Skeleton
from tests.people import standing

PIXELS = PixelInput(384, 288)
HIPS = [11, 12]
Z_RANGE = 2.1744869


def outputs(points: Floating, bins_z: Floating, score: float = 0.9) -> dict[str, np.ndarray]:
    """The network's outputs for one person at (17, 2) input pixels, with the bins of depth (17,)."""
    maps = {name: np.zeros((1, 17, size), np.float32) for name, size in (("x", 576), ("y", 768), ("z", 576))}
    for k, (x, y) in enumerate(points):
        maps["x"][0, k, round(2 * float(x))] = maps["y"][0, k, round(2 * float(y))] = score
        maps["z"][0, k, int(bins_z[k])] = 1.0
    return maps


def whole(width: int, height: int) -> Detections:
    return Detections(np.array([[0, 0, width, height]], np.float32), np.ones(1, np.float32))


def test_depths_are_in_metres_behind_the_hips_as_mmpose_decodes_them() -> None:
    family = SimCC3D(PIXELS, COCO_17)
    bins = np.arange(17) * 30.0
    poses = family.decode(outputs(standing(144, 192, 300), bins), family.regions(whole(288, 384)))
    assert poses.keypoints_3d is not None
    # SimCC3DLabel.decode of projects/rtmpose3d: (bin / split / (depth / 2) - 1) * z_range, for a depth of 288
    np.testing.assert_allclose(poses.keypoints_3d[0, :, 2], (bins / 2 / 144 - 1) * Z_RANGE, atol=1e-5)


def test_x_and_y_are_scaled_to_the_bones_of_an_adult_and_count_from_the_hips() -> None:
    family = SimCC3D(PIXELS, COCO_17)
    person = standing(144, 192, 300)
    for size in (1, 3):  # however large the person is in the frame
        poses = family.decode(outputs(person, np.full(17, 288.0)), family.regions(whole(288 * size, 384 * size)))
        assert poses.keypoints_3d is not None
        metres = poses.keypoints_3d[0]
        np.testing.assert_allclose(metres[HIPS].mean(axis=0), 0, atol=1e-3)
        tall = metres[:, 1].max() - metres[:, 1].min()
        assert 1.3 < tall < 1.8  # from the ankles to the eyes
        drawn = (person - person[HIPS].mean(axis=0)) / np.ptp(person[:, 1])
        np.testing.assert_allclose(metres[:, :2] / tall, drawn, atol=5e-3)


def test_a_limb_that_points_to_the_camera_does_not_enlarge_the_person() -> None:
    family = SimCC3D(PIXELS, COCO_17)
    person, bins = standing(144, 192, 300), np.full(17, 288.0)
    arm = {7: 0.31, 9: 0.56}  # metres from the shoulder towards the camera
    for keypoint, depth in arm.items():
        person[keypoint] = person[5]
        bins[keypoint] -= depth / Z_RANGE * 288
    regions = family.regions(whole(288, 384))
    straight = family.decode(outputs(standing(144, 192, 300), np.full(17, 288.0)), regions).keypoints_3d
    pointing = family.decode(outputs(person, bins), regions).keypoints_3d
    assert straight is not None
    assert pointing is not None
    legs = slice(11, 17)
    np.testing.assert_allclose(pointing[0, legs, 1], straight[0, legs, 1], rtol=0.1, atol=0.02)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 0.0, 1e38])
def test_garbage_gives_finite_poses(garbage: float) -> None:
    family = SimCC3D(PIXELS, COCO_17)
    found = Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32))
    values = {name: np.full_like(array, garbage) for name, array in outputs(np.zeros((17, 2)), np.zeros(17)).items()}
    poses = family.decode(values, family.regions(found))
    assert poses.keypoints_3d is not None
    assert np.isfinite(poses.keypoints).all()
    assert np.isfinite(poses.keypoints_3d).all()
    assert len(family.merge(poses, found)) == 0


def test_outputs_may_be_named_and_a_skeleton_without_limbs_is_refused() -> None:
    named = SimCC3D(PIXELS, COCO_17, names=["x", "y", "z"])
    assert named.outputs == ("x", "y", "z")
    maps = outputs(standing(144, 192, 300), np.full(17, 288.0))
    poses = named.decode({"z": maps["z"], "y": maps["y"], "x": maps["x"]}, named.regions(whole(288, 384)))
    np.testing.assert_allclose(poses.keypoint_scores, 0.9)
    with pytest.raises(ValueError, match="must be three"):
        SimCC3D(PIXELS, COCO_17, names=["x", "y"])
    hand = Skeleton("hand", ("wrist", "thumb"), ((0, 1),), np.full(2, 0.05, np.float32))
    with pytest.raises(ValueError, match="skeleton hand: it has no hips"):
        SimCC3D(PIXELS, hand)
    assert SimCC3D(PIXELS, SKELETONS["halpe-26"]).skeleton.name == "halpe-26"
