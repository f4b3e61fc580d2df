"""The NanoDet family: from scores and distributions at the points of three grids to boxes in frame pixels."""

from __future__ import annotations

import numpy as np
import pytest

from engines.families.nanodet import NanoDet
from engines.inputs import PixelInput
from engines.poses import Floats
from tests import drawn

PIXELS = PixelInput(128, 160, "bgr")
BOXES: Floats = np.array([(20, 12, 61, 117), (90, 30, 140, 101)], np.float32)


def test_boxes_are_found_once_and_in_frame_pixels() -> None:
    family = NanoDet(PIXELS)
    [people] = family.decode(drawn.nanodet(160, 128, *BOXES), family.regions(320, 240))
    np.testing.assert_allclose(people.boxes, 2 * BOXES, atol=1e-2)
    np.testing.assert_allclose(people.scores, [drawn.SCORE, drawn.SCORE])
    assert family.merge([people], family.regions(320, 240)) is people


def test_the_images_of_a_batch_stay_apart_and_outputs_may_have_any_order() -> None:
    family = NanoDet(PIXELS)
    first, second = (drawn.nanodet(160, 128, box) for box in BOXES)
    both = {name: np.concatenate([first[name], second[name]]) for name in reversed(first)}
    for box, people in zip(BOXES, family.decode(both, family.regions(160, 128) * 2), strict=True):
        np.testing.assert_allclose(people.boxes, [box], atol=1e-2)


def test_other_classes_and_low_scores_are_left_out() -> None:
    outputs = drawn.nanodet(160, 128, *BOXES)
    [nobody] = NanoDet(PIXELS, person=1).decode(outputs, NanoDet(PIXELS).regions(160, 128))
    [also_nobody] = NanoDet(PIXELS, min_score=0.95).decode(outputs, NanoDet(PIXELS).regions(160, 128))
    assert (len(nobody), len(also_nobody)) == (0, 0)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e30, -1e30])
@pytest.mark.parametrize("where", ["scores", "sides"])
def test_garbage_is_dropped(garbage: float, where: str) -> None:
    outputs = drawn.nanodet(160, 128, *BOXES)
    spoilt = {name: np.full_like(array, garbage) if where in name else array for name, array in outputs.items()}
    [people] = NanoDet(PIXELS).decode(spoilt, NanoDet(PIXELS).regions(160, 128))
    assert len(people) == 0 or (where == "sides" and np.isfinite(people.boxes).all())


def test_inputs_and_outputs_that_do_not_fit_the_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="100 x 64: its sides must be multiples of 32"):
        NanoDet(PixelInput(64, 100))
    family = NanoDet(PixelInput(128, 128))
    with pytest.raises(ValueError, match="the outputs have 420 points where the grids of the input have 336"):
        family.decode(drawn.nanodet(160, 128), family.regions(128, 128))
    with pytest.raises(ValueError, match="the outputs have 4 points"):
        family.decode({"other": np.zeros((1, 4, 44), np.float32)}, family.regions(128, 128))
