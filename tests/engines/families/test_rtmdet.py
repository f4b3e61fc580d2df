"""The RTMDet family: from boxes in input pixels to people in frame pixels."""

from __future__ import annotations

import numpy as np
import pytest

from engines.families.rtmdet import RTMDet
from engines.inputs import PixelInput

PIXELS = PixelInput(320, 320, "bgr", pad=114)


def outputs(*rows: tuple[float, float, float, float, float, int]) -> dict[str, np.ndarray]:
    table = np.array(rows, np.float64)[None]
    return {"dets": table[..., :5].astype(np.float32), "labels": table[..., 5].astype(np.int64)}


def test_the_frame_is_at_the_top_left_of_the_input() -> None:
    [region] = RTMDet(PIXELS).regions(640, 480)
    np.testing.assert_allclose(region.to_input(320, 320), [[0.5, 0, 0], [0, 0.5, 0]])


def test_only_people_are_returned_in_frame_pixels_best_first() -> None:
    family = RTMDet(PIXELS, min_score=0.3)
    rows = outputs(
        (10, 20, 30, 40, 0.5, 0),
        (50, 60, 70, 80, 0.9, 0),
        (1, 2, 3, 4, 0.2, 0),  # below min_score
        (1, 2, 3, 4, 0.9, 16),  # a dog
        (0, 0, 0, 0, 0, -1),  # padding
    )
    [people] = family.decode(rows, family.regions(640, 480))
    np.testing.assert_allclose(people.boxes, [[100, 120, 140, 160], [20, 40, 60, 80]])
    np.testing.assert_allclose(people.scores, [0.9, 0.5])
    assert family.merge([people], family.regions(640, 480)) is people


def test_the_best_candidate_for_a_person_remains() -> None:
    family = RTMDet(PIXELS, overlap=0.6)
    rows = outputs((10, 10, 50, 90, 0.6, 0), (11, 10, 50, 91, 0.8, 0), (100, 10, 140, 90, 0.7, 0))
    [people] = family.decode(rows, family.regions(320, 320))
    np.testing.assert_allclose(people.scores, [0.8, 0.7])


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e30])
def test_garbage_is_dropped(garbage: float) -> None:
    family = RTMDet(PIXELS)
    [people] = family.decode(
        outputs((garbage, 0, 5, 5, 0.9, 0), (1, 1, 2, 2, -abs(garbage), 0)), family.regions(64, 64)
    )
    assert len(people) == 0
