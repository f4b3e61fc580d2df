"""The heatmap family: Simple Baselines' decoding, compared with its authors' code."""

from __future__ import annotations

import numpy as np
import pytest

from engines.families.heatmap import Heatmap
from engines.families.regions import person_regions
from engines.inputs import PixelInput
from engines.poses import Detections, Region
from engines.skeletons import COCO_17
from tests.shared import SHARED, needs_shared

PIXELS = PixelInput(256, 192)


def people(*boxes: tuple[float, float, float, float]) -> Detections:
    return Detections(np.array(boxes, np.float32), np.ones(len(boxes), np.float32))


def test_regions_have_the_aspect_of_the_input_and_a_quarter_of_padding() -> None:
    tall, wide = Heatmap(PIXELS, COCO_17).regions(people((100, 50, 130, 250), (0, 0, 90, 60)))
    assert (tall.center_x, tall.center_y, tall.height) == (115, 150, 250)
    assert tall.width == pytest.approx(250 * 192 / 256)
    assert (wide.center_x, wide.center_y, wide.width) == (45, 30, 90 * 1.25)
    assert wide.height == pytest.approx(90 * 1.25 * 256 / 192)


def test_a_peak_is_returned_in_frame_pixels() -> None:
    family = Heatmap(PIXELS, COCO_17)
    [region] = family.regions(people((100, 50, 250, 250)))
    heatmaps = np.zeros((1, 17, 64, 48), np.float32)
    heatmaps[0, :, 32, 24] = 0.8  # the cell in the middle of the region
    poses = family.decode({"heatmaps": heatmaps}, [region])
    np.testing.assert_allclose(poses.keypoints[0], np.tile([175.0, 150.0], (17, 1)), atol=1e-4)
    np.testing.assert_allclose(poses.keypoint_scores, 0.8)
    np.testing.assert_allclose(poses.scores, 0.8)


def test_boxes_are_the_detectors_and_scores_the_product_of_both_networks() -> None:
    family = Heatmap(PIXELS, COCO_17)
    found = Detections(np.array([[100, 50, 130, 250]], np.float32), np.array([0.5], np.float32))
    poses = family.decode({"h": np.full((1, 17, 64, 48), 0.8, np.float32)}, family.regions(found))
    merged = family.merge(poses, found)
    np.testing.assert_allclose(merged.boxes, found.boxes)
    np.testing.assert_allclose(merged.scores, [0.4])


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 0.0, 1e38, -1e38])
@pytest.mark.parametrize("refinement", ["quarter", "dark", "blurred", "udp"])
def test_garbage_gives_finite_poses_that_are_dropped(garbage: float, refinement: str) -> None:
    family = Heatmap(PIXELS, COCO_17, refinement=refinement)
    found = people((0, 0, 9, 9), (5, 5, 5, 5))
    poses = family.decode({"h": np.full((2, 17, 64, 48), garbage, np.float32)}, family.regions(found))
    assert np.isfinite(poses.keypoints).all()
    assert (poses.scores == 0).all()
    assert len(family.merge(poses, found)) == 0


def test_udp_measures_crops_and_heatmaps_between_their_outermost_pixels() -> None:
    family = Heatmap(PIXELS, COCO_17, refinement="udp")
    [plain] = Heatmap(PIXELS, COCO_17).regions(people((100, 50, 250, 250)))
    [region] = family.regions(people((100, 50, 250, 250)))
    left, top = plain.center_x - plain.width / 2, plain.center_y - plain.height / 2
    ends = np.array([[left, top, 1], [left + plain.width, top + plain.height, 1]])
    np.testing.assert_allclose(ends @ region.to_input(192, 256).T, [[0, 0], [191, 255]], atol=1e-9)

    # UDP's own map of a cell back to the frame (Huang et al., 2020, equation 6): edges of the box to outermost cells
    cell = np.array([30.3, 41.8])
    rows, columns = np.mgrid[:64, :48]
    heatmap = np.exp(-((columns - cell[0]) ** 2 + (rows - cell[1]) ** 2) / 8).astype(np.float32)
    poses = family.decode({"h": np.tile(heatmap, (1, 17, 1, 1))}, [region])
    expected = cell / (47, 63) * (plain.width, plain.height) + (left, top)
    np.testing.assert_allclose(poses.keypoints[0], np.tile(expected, (17, 1)), atol=0.02)


def test_an_unknown_refinement_is_refused() -> None:
    with pytest.raises(ValueError, match="'sharp' is not one of quarter, dark, blurred, udp"):
        Heatmap(PIXELS, COCO_17, refinement="sharp")


@needs_shared
@pytest.mark.parametrize(("scene", "height", "width"), [("a", 256, 192), ("b", 384, 288)])
def test_keypoints_equal_those_of_the_authors_code(scene: str, height: int, width: int) -> None:
    golden = np.load(SHARED / "goldens/decoders/simplebaseline_decode.npz")
    x, y, w, h = golden[f"{scene}_box_xywh"].T
    boxes = np.stack([x, y, x + w, y + h], axis=1)
    regions = person_regions(Detections(boxes, np.ones(len(boxes), np.float32)), width, height)
    centres = np.array([(r.center_x, r.center_y) for r in regions])
    sizes = np.array([(r.width, r.height) for r in regions])
    np.testing.assert_allclose(centres, golden[f"{scene}_center"], atol=1e-4)
    np.testing.assert_allclose(sizes / 200, golden[f"{scene}_scale"], atol=1e-6)
    for region, affine in zip(regions, golden[f"{scene}_affine_img2input"], strict=True):
        corners = np.array([[0, 0, 1], [640, 480, 1], [region.center_x, region.center_y, 1]])
        np.testing.assert_allclose(corners @ region.to_input(width, height).T, corners @ affine.T, atol=2e-3)
    poses = Heatmap(PixelInput(height, width), COCO_17).decode({"h": golden[f"{scene}_heatmaps"]}, regions)
    np.testing.assert_allclose(poses.keypoints, golden[f"{scene}_preds"], atol=2e-3)
    np.testing.assert_array_equal(poses.keypoint_scores, golden[f"{scene}_maxvals"][..., 0].clip(0, 1))


@needs_shared
def test_rotated_regions_map_as_the_authors_affine_does() -> None:
    golden = np.load(SHARED / "goldens/decoders/simplebaseline_decode.npz")
    x, y, w, h = golden["a_box_xywh"].T
    found = Detections(np.stack([x, y, x + w, y + h], axis=1), np.ones(len(x), np.float32))
    turned = [
        type(r)(r.center_x, r.center_y, r.width, r.height, np.deg2rad(degrees))
        for r, degrees in zip(person_regions(found, 192, 256), golden["a_rot_deg"], strict=True)
    ]
    for region, affine in zip(turned, golden["a_affine_img2input_rot"], strict=True):
        corners = np.array([[0, 0, 1], [640, 480, 1]])
        np.testing.assert_allclose(corners @ region.to_input(192, 256).T, corners @ affine.T, atol=5e-3)


@needs_shared
@pytest.mark.parametrize(("scene", "height", "width"), [("a", 256, 192), ("b", 384, 288)])
def test_cpn_is_decoded_as_by_its_authors(scene: str, height: int, width: int) -> None:
    golden = np.load(SHARED / "goldens/decoders/cpn_decode.npz")
    boxes, maps = golden[f"{scene}_crop_xyxy"], golden[f"{scene}_score_map"]
    regions = [Region((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1) for x1, y1, x2, y2 in boxes.tolist()]
    family = Heatmap(PixelInput(height, width), COCO_17, refinement="blurred", scale=1 / 255)
    poses = family.decode({"h": maps}, regions)
    np.testing.assert_allclose(poses.keypoints, golden[f"{scene}_keypoints"][..., :2], atol=1e-2)
    people_there = golden[f"{scene}_det_scores"] * (poses.keypoint_scores + 0.5).mean(axis=1)  # the authors add 0.5
    np.testing.assert_allclose(people_there, golden[f"{scene}_scores"], atol=1e-5)


@needs_shared
@pytest.mark.parametrize(("shift", "name"), [(False, "preds"), (True, "preds_shift")])
def test_the_mirror_image_is_averaged_as_by_the_authors(shift: bool, name: str) -> None:
    golden = np.load(SHARED / "goldens/decoders/flip_test.npz")
    x, y, w, h = golden["box_xywh"].T
    family = Heatmap(PIXELS, COCO_17, flip=True, flip_shift=shift)
    regions = family.regions(people(*np.stack([x, y, x + w, y + h], axis=1).tolist()))
    outputs = {"h": golden["output"], "h mirrored": golden["output_of_flipped_input"]}
    poses = family.decode(outputs, regions)
    np.testing.assert_allclose(poses.keypoints, golden[name], atol=2e-3)
