"""The centre_point family: from peaks of a heatmap to boxes in frame pixels, in the usual forms of such graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engines.families.centre_point import CentrePoint
from engines.inputs import PixelInput
from engines.poses import Floats
from tests import drawn
from tests.drawn import Outputs

PIXELS = PixelInput(128, 160)
BOXES: Floats = np.array([(20, 12, 61, 117), (90, 30, 141, 101)], np.float32)


def drawn_in_form(*, last: bool = False, logits: bool = True, yx: bool = False, in_pixels: bool = False) -> Outputs:
    """The heads for BOXES, in another form than CenterNet's."""
    outputs = drawn.centre_point(160, 128, *BOXES)
    if not logits:
        outputs["hm"] = 1 / (1 + np.exp(-outputs["hm"]))
    if in_pixels:
        outputs["wh"] = outputs["wh"] * 4
    if yx:
        outputs |= {name: outputs[name][:, ::-1] for name in ("wh", "reg")}
    return {name: array.transpose(0, 2, 3, 1) for name, array in outputs.items()} if last else outputs


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ({}, {}),
        ({"last": True}, {"channels_last": True}),
        ({"logits": False}, {"logits": False}),
        ({"yx": True}, {"yx": True}),
        ({"in_pixels": True}, {"size_in_pixels": True}),
        ({"last": True, "yx": True, "logits": False}, {"channels_last": True, "yx": True, "logits": False}),
    ],
)
def test_every_form_gives_the_same_people(form: dict[str, Any], options: dict[str, Any]) -> None:
    family = CentrePoint(PIXELS, **options)
    [people] = family.decode(drawn_in_form(**form), family.regions(320, 256))
    np.testing.assert_allclose(people.boxes, 2 * BOXES, atol=1e-3)
    np.testing.assert_allclose(people.scores, [drawn.SCORE, drawn.SCORE], rtol=1e-6)


def test_graphs_without_offsets_place_centres_at_their_cells() -> None:
    family = CentrePoint(PIXELS, offset=None, heatmap="a", size="b")
    assert family.outputs == ("a", "b")
    outputs = drawn.centre_point(160, 128, BOXES[0])
    [people] = family.decode({"a": outputs["hm"], "b": outputs["wh"]}, family.regions(160, 128))
    np.testing.assert_allclose(people.boxes, [[40 - 20.5, 64 - 52.5, 40 + 20.5, 64 + 52.5]])


def test_the_images_of_a_batch_stay_apart() -> None:
    family = CentrePoint(PIXELS)
    first, second = (drawn.centre_point(160, 128, box) for box in BOXES)
    both = {name: np.concatenate([first[name], second[name]]) for name in first}
    for box, people in zip(BOXES, family.decode(both, family.regions(160, 128) * 2), strict=True):
        np.testing.assert_allclose(people.boxes, [box], atol=1e-3)


def test_other_classes_are_left_out() -> None:
    family = CentrePoint(PIXELS, person=1)
    [people] = family.decode(drawn.centre_point(160, 128, *BOXES), family.regions(160, 128))
    assert len(people) == 0


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e30, -1e30])
@pytest.mark.parametrize("where", ["hm", "wh", "reg"])
def test_garbage_gives_no_boxes_that_are_not_numbers(garbage: float, where: str) -> None:
    outputs = drawn.centre_point(160, 128, *BOXES)
    outputs[where] = np.full_like(outputs[where], garbage)
    [people] = CentrePoint(PIXELS).decode(outputs, CentrePoint(PIXELS).regions(160, 128))
    assert np.isfinite(people.boxes).all()
