"""BlazePose's detector: from synthetic outputs to people in frame pixels, including tiles."""

from __future__ import annotations

import numpy as np
import pytest

from engines.families.blazepose_detector import BlazePoseDetector, cell_centres
from engines.inputs import PixelInput
from engines.poses import Detections, Region

PIXELS = PixelInput(224, 224, mean=(127.5,) * 3, std=(127.5,) * 3)
BOXES = 2254
FACE = 30.0
"""Side of the synthetic face boxes, in input pixels."""

Outputs = dict[str, np.ndarray]


def silence(batch: int = 1) -> Outputs:
    """The network's outputs without any people."""
    return {
        "Identity": np.zeros((batch, BOXES, 12), np.float32),
        "Identity_1": np.full((batch, BOXES, 1), -9, np.float32),
    }


def plant(outputs: Outputs, cell: int, *, face: tuple[float, float], hips: tuple[float, float],
          top: tuple[float, float], logit: float = 2.0, item: int = 0) -> None:  # fmt: skip
    """Add a person in input pixels to one box of one item of the batch."""
    points = np.array([hips, top, hips, top]) - cell_centres(224, 224)[cell]
    middle = np.array(face) - cell_centres(224, 224)[cell]
    outputs["Identity"][item, cell] = np.concatenate([middle, (FACE, FACE), points.ravel()])
    outputs["Identity_1"][item, cell] = logit


def test_three_grids_of_cells_cover_the_input() -> None:
    centres = cell_centres(224, 224)
    assert centres.shape == (BOXES, 2)
    assert centres[[0, 1, 2, 56]].tolist() == [[4, 4], [4, 4], [12, 4], [4, 12]]  # two boxes a cell, row by row
    assert centres[[1568, 1570]].tolist() == [[8, 8], [24, 8]]
    assert centres[[1960, 1965, 1966, 2253]].tolist() == [[16, 16], [16, 16], [48, 16], [208, 208]]  # six a cell


def test_the_whole_frame_is_centred_in_the_input() -> None:
    assert BlazePoseDetector(PIXELS).regions(448, 224) == [Region(224, 112, 448, 448)]


def test_a_person_is_returned_in_frame_pixels() -> None:
    detector = BlazePoseDetector(PIXELS)
    outputs = silence()
    plant(outputs, 700, face=(112, 80), hips=(112, 120), top=(112, 70))
    [people] = detector.decode(outputs, detector.regions(448, 224))  # scaled by 2, with 112 empty rows above
    assert people.anchors is not None
    np.testing.assert_allclose(people.anchors, [[(224, 128), (224, 28)] * 2], atol=1e-4)
    np.testing.assert_allclose(people.boxes, [[124, 28, 324, 228]], atol=1e-4)  # around the circle of radius 100
    np.testing.assert_allclose(people.scores, 1 / (1 + np.exp(-2.0)), rtol=1e-5)


def test_boxes_on_one_face_are_averaged_by_score_and_other_faces_remain() -> None:
    detector = BlazePoseDetector(PIXELS)
    outputs = silence()
    sure = np.log(0.8 / 0.2)
    plant(outputs, 700, face=(100, 80), hips=(100, 120), top=(100, 70), logit=sure)
    plant(outputs, 702, face=(103, 80), hips=(109, 120), top=(109, 70), logit=sure)
    plant(outputs, 2200, face=(180, 80), hips=(180, 120), top=(180, 70), logit=0.1)
    [people] = detector.decode(outputs, detector.regions(224, 224))
    assert people.anchors is not None
    np.testing.assert_allclose(people.anchors[:, 0], [(104.5, 120), (180, 120)], atol=1e-4)
    np.testing.assert_allclose(people.scores, [0.8, 0.525], atol=1e-3)


def test_items_of_a_batch_are_independent() -> None:
    detector = BlazePoseDetector(PIXELS)
    outputs = silence(3)
    plant(outputs, 700, face=(112, 80), hips=(112, 120), top=(112, 70), item=2)
    region = Region(112, 112, 224, 224)
    parts = detector.decode(outputs, [region, region, Region(1112, 112, 224, 224)])
    assert [len(part) for part in parts] == [0, 0, 1]
    np.testing.assert_allclose(parts[2].boxes, [[1062, 70, 1162, 170]], atol=1e-3)


def test_detections_with_low_scores_are_dropped() -> None:
    outputs = silence()
    plant(outputs, 700, face=(112, 80), hips=(112, 120), top=(112, 70), logit=0.0)
    regions = [Region(112, 112, 224, 224)]
    assert [len(BlazePoseDetector(PIXELS, min_score=s).decode(outputs, regions)[0]) for s in (0.4, 0.6)] == [1, 0]


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (1920, 1080), (500, 500), (4000, 300)])
@pytest.mark.parametrize("n", [2, 3])
def test_tiles_cover_the_frame_and_overlap(width: int, height: int, n: int) -> None:
    _, *tiles = BlazePoseDetector(PIXELS, tiles=[n], overlap=0.25).regions(width, height)
    side = tiles[0].width
    for axis, length in (("center_x", width), ("center_y", height)):
        centres = np.unique([getattr(tile, axis) for tile in tiles])
        assert len(centres) <= n
        assert centres[0] - side / 2 <= 1e-9
        assert centres[-1] + side / 2 >= length - 1e-9
        assert (np.diff(centres) <= 0.75 * side + 1e-9).all()
    assert max(len(np.unique([getattr(t, axis) for t in tiles])) for axis in ("center_x", "center_y")) == n
    assert all(tile.width == tile.height == side for tile in tiles)


TILE = Region(120, 120, 240, 240)


def seen(x: float, y: float, radius: float, score: float) -> Detections:
    """One upright person as detected in a region."""
    points = np.array([(x, y), (x, y - radius), (x, y - radius / 2), (x, y - radius)], np.float32)
    box = np.array([[x - radius, y - radius, x + radius, y + radius]], np.float32)
    return Detections(box, np.array([score], np.float32), points[None])


def test_a_person_on_the_border_of_two_tiles_is_found_once() -> None:
    parts = [seen(100, 200, 80, 0.6), seen(104, 190, 70, 0.9), seen(97, 206, 84, 0.7)]
    people = BlazePoseDetector(PIXELS).merge(parts, [TILE] * 3)
    np.testing.assert_allclose(people.scores, [0.9])
    np.testing.assert_allclose(people.boxes, [[34, 120, 174, 260]])


def test_a_body_much_larger_than_its_tile_counts_only_in_the_whole_frame() -> None:
    giant = seen(120, 120, 320, 0.9)
    assert len(BlazePoseDetector(PIXELS).merge([seen(900, 0, 9, 0.9).select(slice(0)), giant], [TILE] * 2)) == 0
    assert len(BlazePoseDetector(PIXELS).merge([giant], [TILE])) == 1


def test_neighbours_with_overlapping_boxes_are_kept() -> None:
    people = BlazePoseDetector(PIXELS).merge([seen(100, 200, 80, 0.6), seen(160, 200, 80, 0.9)], [TILE] * 2)
    np.testing.assert_allclose(people.scores, [0.9, 0.6])


def test_merging_needs_alignment_points() -> None:
    other = Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32))
    with pytest.raises(ValueError, match="no alignment points"):
        BlazePoseDetector(PIXELS).merge([other], [TILE])


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 0.0, 1e30, -1e30])
@pytest.mark.parametrize("logit", [np.nan, np.inf, 1e30, 0.0])
def test_garbage_is_dropped(garbage: float, logit: float) -> None:
    detector = BlazePoseDetector(PIXELS, tiles=[2])
    regions = detector.regions(640, 480)
    outputs = silence(len(regions))
    outputs["Identity"][:] = garbage
    outputs["Identity_1"][:] = logit
    assert len(detector.merge(detector.decode(outputs, regions), regions)) == 0


def test_the_number_of_candidates_is_bounded() -> None:
    rng = np.random.default_rng(0)
    outputs = {"Identity": rng.uniform(0, 224, (1, BOXES, 12)), "Identity_1": rng.uniform(0, 9, (1, BOXES, 1))}
    [people] = BlazePoseDetector(PIXELS).decode(outputs, [Region(112, 112, 224, 224)])
    assert 0 < len(people) <= 256


@pytest.mark.parametrize(
    ("tiles", "overlap", "min_score", "fault"),
    [((1,), 0.2, 0.5, "tiles"), ((), 1.0, 0.5, "overlap"), ((), 0.2, 0.0, "min_score"), ((), 0.2, 1.1, "min_score")],
)
def test_options_out_of_range_are_refused(tiles: tuple[int, ...], overlap: float, min_score: float, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        BlazePoseDetector(PIXELS, tiles=tiles, overlap=overlap, min_score=min_score)
