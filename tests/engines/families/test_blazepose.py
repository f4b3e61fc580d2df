"""BlazePose: rotated regions from alignment points, synthetic landmarks to poses, no duplicates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engines.families.blazepose import BlazePose, refine
from engines.inputs import PixelInput
from engines.poses import Detections, Poses, Region
from engines.skeletons import BLAZEPOSE_33, COCO_17

PIXELS = PixelInput(256, 256, std=(255.0,) * 3)
SURE = 9.0
"""A logit of almost certainty."""

Outputs = dict[str, np.ndarray]


def person(points: np.ndarray, *, presence: float = 0.9, batch: int = 1) -> Outputs:
    """The outputs for a person with these (33, 2) keypoints in input pixels, with empty heatmaps."""
    landmarks = np.full((batch, 39, 5), SURE, np.float32)
    landmarks[:, :33, :2] = points
    metres = np.zeros((batch, 39, 3), np.float32)
    metres[:, :33, :2] = (points - 128) / 100
    return {
        "Identity": landmarks.reshape(batch, 195),
        "Identity_1": np.full((batch, 1), presence, np.float32),
        "Identity_3": np.full((batch, 64, 64, 39), -SURE, np.float32),
        "Identity_4": metres.reshape(batch, 117),
    }


def detected(count: int) -> Detections:
    """This many certain detections."""
    return Detections(np.zeros((count, 4), np.float32), np.ones(count, np.float32))


@pytest.fixture
def points() -> np.ndarray:
    return np.random.default_rng(3).uniform(40, 200, (33, 2)).astype(np.float32)


def aligned(hips: tuple[float, float], top: tuple[float, float]) -> Detections:
    return Detections(
        np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.array([[hips, top, hips, top]], np.float32)
    )


@pytest.mark.parametrize(
    ("top", "turn"),
    [((100, 60), 0), ((140, 100), np.pi / 2), ((100, 140), np.pi), ((60, 100), -np.pi / 2)],
    ids=["upright", "head to the right", "upside down", "head to the left"],
)
def test_a_region_is_rotated_like_the_person(top: tuple[float, float], turn: float) -> None:
    [region] = BlazePose(PIXELS).regions(aligned((100, 100), top))
    assert (region.center_x, region.center_y) == (100, 100)
    assert region.width == region.height == pytest.approx(2 * 40 * 1.25)
    assert region.rotation == pytest.approx(turn)
    # in the input the head is above the hips for every rotation
    np.testing.assert_allclose(region.to_input(256, 256) @ (*top, 1), (128, 128 - 128 / 1.25), atol=1e-4)


def test_boxes_alone_give_upright_squares() -> None:
    people = Detections(np.array([[100, 100, 140, 180]], np.float32), np.ones(1, np.float32))
    assert BlazePose(PIXELS).regions(people) == [Region(120, 140, 100, 100)]


def test_a_person_without_extent_still_has_a_region() -> None:
    [region] = BlazePose(PIXELS).regions(aligned((5, 5), (5, 5)))
    assert np.isfinite(region.to_input(256, 256)).all()


def test_keypoints_are_returned_in_frame_pixels(points: np.ndarray) -> None:
    region = Region(300, 200, 128, 128, 0.5)
    poses = BlazePose(PIXELS).decode(person(points), [region])
    back = poses.keypoints[0] @ region.to_input(256, 256)[:, :2].T + region.to_input(256, 256)[:, 2]
    np.testing.assert_allclose(back, points, atol=1e-3)
    assert poses.skeleton is BLAZEPOSE_33
    assert poses.keypoints_3d is not None
    arrays = (poses.keypoints, poses.keypoint_scores, poses.boxes, poses.scores, poses.keypoints_3d)
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}
    np.testing.assert_allclose(poses.scores, [0.9])


def test_metres_are_rotated_into_the_axes_of_the_frame(points: np.ndarray) -> None:
    poses = BlazePose(PIXELS).decode(person(points), [Region(0, 0, 1, 1, np.pi / 2)])
    assert poses.keypoints_3d is not None
    x, y = (points.T - 128) / 100
    np.testing.assert_allclose(poses.keypoints_3d[0], np.stack([-y, x, np.zeros(33)], axis=1), atol=1e-5)


def test_a_keypoints_score_is_the_lower_of_visible_and_inside(points: np.ndarray) -> None:
    outputs = person(points)
    outputs["Identity"].reshape(1, 39, 5)[0, :3, 3:] = [(0, SURE), (SURE, 0), (0, -1)]
    scores = BlazePose(PIXELS).decode(outputs, [Region(0, 0, 1, 1)]).keypoint_scores[0]
    np.testing.assert_allclose(scores[:4], [0.5, 0.5, 0.2689, 0.9999], atol=1e-4)


def test_the_box_contains_the_keypoints_inside_the_frame() -> None:
    points = np.tile(np.array([128, 128], np.float32), (33, 1))
    points[:3] = (100, 60), (140, 160), (128, 999)
    outputs = person(points)
    outputs["Identity"].reshape(1, 39, 5)[0, 2, 4] = -SURE  # far below the frame
    poses = BlazePose(PIXELS).decode(outputs, [Region(128, 128, 256, 256)])
    np.testing.assert_allclose(poses.boxes, [[95, 55, 145, 165]], atol=1e-3)  # with a margin of 1/20 of the longer side


def test_a_confident_heatmap_moves_its_keypoint(points: np.ndarray) -> None:
    points[:2] = (100.5, 100.5), (200.5, 40.5)
    outputs = person(points)
    outputs["Identity_3"][0, 25:27, 27, 0] = SURE, SURE  # two cells of four pixels, at x 108 and y 100 and 104
    outputs["Identity_3"][0, 60, 10, 1] = SURE  # too far away to be the same
    poses = BlazePose(PIXELS).decode(outputs, [Region(128, 128, 256, 256)])
    np.testing.assert_allclose(poses.keypoints[0, 0], (108, 102), atol=0.1)
    np.testing.assert_allclose(poses.keypoints[0, 1:], points[1:], atol=1e-3)


@pytest.mark.parametrize(("place", "cell"), [(0.0, 1.5), (0.5, 32), (0.999, 61.5)])
def test_refinement_uses_the_part_of_the_window_inside_the_map(place: float, cell: float) -> None:
    points = np.full((1, 1, 2), place, np.float32)
    everywhere = np.full((1, 64, 64, 1), SURE, np.float32)
    np.testing.assert_allclose(refine(points, everywhere) * 64, np.full((1, 1, 2), cell), atol=1e-3)


@pytest.mark.parametrize("place", [(-0.5, 0.5), (0.5, 1.5)])
def test_keypoints_outside_the_input_are_not_refined(place: tuple[float, float]) -> None:
    points = np.array([[place]], np.float32)
    np.testing.assert_array_equal(refine(points, np.full((1, 64, 64, 1), SURE, np.float32)), points)


def test_items_of_a_batch_are_independent(points: np.ndarray) -> None:
    outputs = person(points, batch=3)
    outputs["Identity"][1] = np.nan
    poses = BlazePose(PIXELS).decode(outputs, [Region(128 + 1000 * i, 128, 256, 256) for i in range(3)])
    assert poses.scores.tolist() == pytest.approx([0.9, 0, 0.9])
    np.testing.assert_allclose(poses.keypoints[2], points + np.array([2000, 0]), atol=1e-3)
    assert len(BlazePose(PIXELS).merge(poses, detected(3))) == 2


def poses_at(points: np.ndarray, *people: tuple[float, float]) -> Poses:
    """Copies of the pose, each shifted right by some pixels and with its own score."""
    outputs = person(points, batch=len(people))
    poses = BlazePose(PIXELS).decode(outputs, [Region(128 + x, 128, 256, 256) for x, _ in people])
    return replace(poses, scores=np.array([score for _, score in people], np.float32))


def test_duplicates_are_removed_and_the_best_come_first(points: np.ndarray) -> None:
    merged = BlazePose(PIXELS).merge(poses_at(points, (0, 0.6), (4, 0.9), (300, 0.7), (600, 0.0)), detected(4))
    np.testing.assert_allclose(merged.scores, [0.9, 0.7])
    assert merged.keypoints_3d is not None
    assert merged.keypoints_3d.shape == (2, 33, 3)


def test_a_part_of_a_person_is_not_another_person(points: np.ndarray) -> None:
    whole = poses_at(points, (0, 0.9))
    shrunk = whole.keypoints[:, ::-1] / np.float32(3) + np.float32(80)
    box = whole.boxes / np.float32(3) + np.float32(80)
    part = replace(whole, keypoints=shrunk, boxes=box, scores=whole.scores / np.float32(2))
    assert len(BlazePose(PIXELS).merge(Poses.join([whole, part]), detected(2))) == 1


def test_the_detectors_score_counts(points: np.ndarray) -> None:
    unsure = Detections(np.zeros((1, 4), np.float32), np.full(1, 0.5, np.float32))
    np.testing.assert_allclose(BlazePose(PIXELS).merge(poses_at(points, (0, 0.8)), unsure).scores, [0.4])


def test_people_with_low_presence_are_dropped(points: np.ndarray) -> None:
    outputs = person(points, presence=0.4)
    regions = [Region(128, 128, 256, 256)]
    found = [BlazePose(PIXELS, min_presence=p) for p in (0.3, 0.5)]
    assert [len(family.merge(family.decode(outputs, regions), detected(1))) for family in found] == [1, 0]


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 0.0, 1e30, -1e30])
def test_garbage_is_dropped(garbage: float, points: np.ndarray) -> None:
    family = BlazePose(PIXELS)
    outputs = {name: np.full_like(array, garbage) for name, array in person(points, batch=2).items()}
    poses = family.decode(outputs, [Region(128, 128, 256, 256)] * 2)
    assert np.isfinite(poses.keypoints).all()
    assert len(family.merge(poses, detected(2))) == 0


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e30])
def test_a_garbage_heatmap_leaves_finite_keypoints(garbage: float, points: np.ndarray) -> None:
    outputs = person(points)
    outputs["Identity_3"][:] = garbage
    poses = BlazePose(PIXELS).decode(outputs, [Region(128, 128, 256, 256)])
    assert np.abs(poses.keypoints - points).max() < 16  # at most half a window away


def test_no_people_in_gives_no_people_out(points: np.ndarray) -> None:
    family = BlazePose(PIXELS)
    none = {name: array[:0] for name, array in person(points).items()}
    assert len(family.merge(family.decode(none, []), detected(0))) == 0
    assert family.regions(Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))) == []


def test_other_skeletons_are_refused() -> None:
    with pytest.raises(ValueError, match="blazepose-33"):
        BlazePose(PIXELS, COCO_17)
