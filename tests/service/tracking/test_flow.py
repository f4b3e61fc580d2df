"""Points with texture are tracked; others are reported as not found."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from service.tracking.flow import Flow
from tests.service.tracking.people import wall

POINTS = np.random.default_rng(0).uniform((60, 30), (140, 150), (1, 17, 2)).astype(np.float32)
KNOWN = np.ones((1, 17), np.bool_)
CORNERS = np.array([(0, 0), (320, 0), (0, 180), (320, 180)], np.float32)
NOBODY = np.zeros((0, 17, 2), np.float32), np.zeros((0, 17), np.bool_), np.zeros((0, 4), np.float32)


def box(height: float) -> np.ndarray:
    return np.array([[60, 20, 140, 20 + height]], np.float32)


@pytest.mark.parametrize("height", [80.0, 140.0], ids=["whole frame", "half frame"])
def test_people_and_camera_are_tracked(height: float) -> None:
    flow = Flow()
    assert flow.follow(wall(), POINTS, KNOWN, box(height)) is None
    carried = flow.follow(wall(7), POINTS, KNOWN, box(height))
    assert carried is not None
    assert carried.found.mean() > 0.9
    np.testing.assert_allclose(
        carried.moves[carried.found], np.broadcast_to((7, 0), (carried.found.sum(), 2)), atol=0.5
    )
    np.testing.assert_allclose(carried.camera_at(CORNERS), np.broadcast_to((7, 0), (4, 2)), atol=0.5)


def test_unknown_points_are_not_tracked() -> None:
    flow, known = Flow(), KNOWN.copy()
    known[0, 3:] = False
    flow.follow(wall(), POINTS, known, box(80))
    carried = flow.follow(wall(4), POINTS, known, box(80))
    assert carried is not None
    assert not carried.found[0, 3:].any()
    assert not carried.moves[0, 3:].any()


@pytest.mark.parametrize("to", [np.zeros((180, 320, 3), np.uint8), 255 - wall()[::-1, ::-1]], ids=["black", "another"])
def test_another_scene_gives_no_points(to: np.ndarray) -> None:
    flow = Flow()
    flow.follow(wall(), POINTS, KNOWN, box(80))
    carried = flow.follow(np.ascontiguousarray(to), POINTS, KNOWN, box(80))
    assert carried is not None
    assert carried.found.mean() < 0.3


def test_another_frame_size_starts_anew() -> None:
    flow = Flow()
    flow.follow(wall(), POINTS, KNOWN, box(80))
    assert flow.follow(wall(width=400), POINTS, KNOWN, box(80)) is None
    assert flow.follow(wall(3, width=400), POINTS, KNOWN, box(80)) is not None


def test_no_people_are_no_error() -> None:
    flow = Flow()
    flow.follow(wall(), *NOBODY)
    carried = flow.follow(wall(5), *NOBODY)
    assert carried is not None
    np.testing.assert_allclose(carried.camera_at(CORNERS), np.broadcast_to((5, 0), (4, 2)), atol=0.5)


@pytest.mark.parametrize(
    ("zoom", "degrees"), [(1.04, 0.0), (0.97, 0.0), (1.0, 3.0), (1.03, -2.0)], ids=["in", "out", "roll", "both"]
)
def test_a_camera_that_zooms_and_rolls_moves_the_background_differently_in_each_place(
    zoom: float, degrees: float
) -> None:
    flow = Flow()
    matrix = cv2.getRotationMatrix2D((160, 90), degrees, zoom)
    flow.follow(wall(), *NOBODY)
    carried = flow.follow(np.asarray(cv2.warpAffine(wall(), matrix, (320, 180)), np.uint8), *NOBODY)
    assert carried is not None
    expected = CORNERS @ matrix[:, :2].T + matrix[:, 2] - CORNERS
    np.testing.assert_allclose(carried.camera_at(CORNERS), expected, atol=0.8)


def test_people_whom_nobody_has_found_do_not_move_the_background() -> None:
    flow, before, after = Flow(), wall(), wall(4)
    before[30:150, 40:120] = wall()[10:130, 140:220]
    after[30:150, 52:132] = wall()[10:130, 140:220]
    flow.follow(before, *NOBODY)
    carried = flow.follow(after, *NOBODY)
    assert carried is not None
    np.testing.assert_allclose(carried.camera_at(CORNERS), np.broadcast_to((4, 0), (4, 2)), atol=0.8)
