"""The YOLOX family: from raw grids to boxes, compared with rtmlib."""

from __future__ import annotations

import numpy as np
import pytest

from engines.families.yolox import YOLOX, decode_yolox, grid
from engines.inputs import PixelInput
from engines.poses import Region
from tests.shared import SHARED, needs_shared

PIXELS = PixelInput(64, 96, "bgr", pad=114)


def test_three_grids_cover_the_input_row_by_row() -> None:
    points = grid(96, 64)
    assert len(points) == 12 * 8 + 6 * 4 + 3 * 2
    assert points[13].tolist() == [1, 1, 8]
    assert points[-1].tolist() == [2, 1, 32]


def test_boxes_are_relative_to_their_cell_and_people_are_in_frame_pixels() -> None:
    raw = np.zeros((1, 126, 5 + 2), np.float32)
    raw[0, 13] = (0.5, 0.25, np.log(2), np.log(3), 0.9, 0.8, 0.1)  # centre 12, 10, size 16 x 24
    raw[0, 14] = (-0.5, 0.25, np.log(2), np.log(3), 0.8, 0.8, 0.1)  # the same from the next cell
    raw[0, 90] = (0.5, 0.25, np.log(2), np.log(3), 0.9, 0.1, 0.8)  # a bicycle
    family = YOLOX(PIXELS)
    [people] = family.decode({"output": raw}, family.regions(192, 128))
    np.testing.assert_allclose(people.boxes, [[8, -4, 40, 44]], atol=1e-4)
    np.testing.assert_allclose(people.scores, [0.72], rtol=1e-6)
    assert family.merge([people], family.regions(192, 128)) is people


def test_several_classes_may_be_found_alike() -> None:
    raw = np.zeros((1, 126, 5 + 3), np.float32)
    raw[0, 13] = (0.5, 0.25, np.log(2), np.log(3), 0.9, 0.9, 0.1, 0.1)  # a person
    raw[0, 60] = (0.5, 0.25, np.log(2), np.log(3), 0.9, 0.1, 0.8, 0.1)  # a cat
    raw[0, 90] = (0.5, 0.25, np.log(2), np.log(3), 0.8, 0.1, 0.1, 0.8)  # a dog
    family = YOLOX(PIXELS, person=(1, 2))
    [animals] = family.decode({"output": raw}, family.regions(192, 128))
    np.testing.assert_allclose(animals.scores, [0.72, 0.64], rtol=1e-6)
    with pytest.raises(ValueError, match="not the index of a class"):
        YOLOX(PIXELS, person=())


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 0.0, 1e30, -1e30])
def test_garbage_is_dropped(garbage: float) -> None:
    [people] = YOLOX(PIXELS).decode({"o": np.full((1, 126, 6), garbage, np.float32)}, YOLOX(PIXELS).regions(96, 64))
    assert len(people) == 0


def test_the_input_must_fit_the_grids() -> None:
    with pytest.raises(ValueError, match="100 x 64: its sides must be multiples of 32"):
        YOLOX(PixelInput(64, 100))


@needs_shared
@pytest.mark.parametrize("scene", ["a", "b"])
def test_boxes_equal_those_of_rtmlib(scene: str) -> None:
    golden = np.load(SHARED / "goldens/decoders/yolox_decode.npz")
    raw, ratio = golden[f"{scene}_raw"], float(golden[f"{scene}_ratio"])
    height, width = (int(side) for side in golden[f"{scene}_input_hw"])
    decoded = decode_yolox(raw, width, height)[0]
    np.testing.assert_allclose(decoded, golden[f"{scene}_decoded_cxcywh"], rtol=1e-5)
    family = YOLOX(PixelInput(height, width), min_score=0.45)
    shown = width / ratio, height / ratio
    [people] = family.decode({"output": raw}, [Region(shown[0] / 2, shown[1] / 2, *shown)])
    expected = golden[f"{scene}_boxes_xyxy"]
    assert people.boxes.shape == expected.shape
    np.testing.assert_allclose(people.scores, golden[f"{scene}_kept_scores"], atol=1e-6)
    np.testing.assert_allclose(people.boxes, expected, atol=0.01)
