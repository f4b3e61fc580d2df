"""Pictures of people, encoded."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from engines.poses import Poses
from engines.skeletons import COCO_17
from service.media.draw import HeatMap, draw
from service.media.pictures import draw_picture
from tests.people import standing


def person() -> Poses:
    points = standing(150, 150, 250)[None]
    box = np.array([[*points[0].min(axis=0), *points[0].max(axis=0)]], np.float32)
    return Poses(points, np.linspace(0.3, 1, 17, dtype=np.float32)[None], box, np.ones(1, np.float32), COCO_17)


@pytest.mark.parametrize("level", [0, 90, 255])
def test_a_transparent_picture_looks_like_the_drawing_on_any_background(level: int) -> None:
    frame = np.full((300, 300, 3), level, np.uint8)
    content = draw_picture(frame.copy(), person(), "image/png", {"background": "none", "boxes": True, "ids": True})
    picture = Image.open(io.BytesIO(content))
    assert picture.mode == "RGBA"
    backdrop = Image.new("RGBA", picture.size, (level, level, level, 255))
    shown = np.asarray(Image.alpha_composite(backdrop, picture).convert("RGB")).astype(int)
    expected = draw(frame, person(), boxes=True, ids=True).astype(int)
    difference = np.abs(shown - expected)
    assert difference.mean() < (5 if level == 90 else 0.5)  # in between, lines darken more than they cover
    assert level == 90 or difference.max() <= 3
    assert np.asarray(picture)[0, 0, 3] == 0


def test_faces_are_blurred_in_pictures() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    nobody = Poses.empty(COCO_17)
    content = draw_picture(noise.copy(), nobody, "image/png", {}, person())
    picture = np.asarray(Image.open(io.BytesIO(content)))
    x, y = person().keypoints[0, 0].astype(int)
    assert picture[y - 8 : y + 8, x - 8 : x + 8].std() < 20
    assert (picture[200:] == noise[200:]).all()


def test_a_heat_map_is_hottest_where_people_stood_longest() -> None:
    heat = HeatMap(300, 300)
    for number in range(50):
        heat.update(person(), number / 10)
    moved = person()
    moved.boxes[:] += np.float32(-100)
    heat.update(moved, 5.0)
    (left, _, right, bottom) = person().boxes[0]
    row, column = np.unravel_index(heat.seconds.argmax(), heat.seconds.shape)
    cell = 300 / 160
    assert abs((column + 0.5) * cell - (left + right) / 2) < 4
    assert abs((row + 0.5) * cell - bottom) < 4
    assert heat.seconds.max() == pytest.approx(4.9, abs=0.3)
    picture = draw(np.full((300, 300, 3), 128, np.uint8), Poses.empty(COCO_17), heat=heat)
    red, _, blue = picture[int(bottom) - 1, int((left + right) / 2)].tolist()
    assert red > blue + 50
    assert (picture[:50] == 128).all()


def test_a_heat_map_bounds_gaps_and_ignores_clocks_that_go_back() -> None:
    heat = HeatMap(300, 300)
    for timestamp in (0.0, 100.0, 50.0):
        heat.update(person(), timestamp)
    assert 0 < heat.seconds.max() <= 1.0


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_boxes_that_are_not_finite_leave_a_heat_map_as_it_is(value: float) -> None:
    heat, poses = HeatMap(30, 20), person()
    poses.boxes[:] = value
    heat.update(poses, 0.0)
    heat.update(poses, 1.0)
    assert not heat.seconds.any()
