"""Frames as they are shown: with zones and lines, with blurred faces, and smaller."""

from __future__ import annotations

import numpy as np

from engines.poses import Poses
from engines.skeletons import COCO_17
from service.media.scene import draw_scene, narrowed
from service.tracking.zones import Line, Zone

NOBODY = Poses(
    np.zeros((0, 17, 2), np.float32),
    np.zeros((0, 17), np.float32),
    np.zeros((0, 4), np.float32),
    np.zeros(0, np.float32),
    COCO_17,
)


def test_zones_and_lines_are_drawn_and_the_frame_is_left_alone() -> None:
    pixels = np.full((48, 64, 3), 128, np.uint8)
    zone, line = Zone("hall", ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9))), Line("door", (0.5, 0.2), (0.5, 0.8))
    drawn = draw_scene(pixels, NOBODY, (zone,), (line,))
    assert (drawn != 128).any()
    assert (pixels == 128).all()


def test_faces_are_blurred_below_what_is_drawn() -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)
    drawn = draw_scene(pixels, NOBODY, faces=np.array([[32.0, 24.0, 10.0]]))
    assert drawn[20:28, 28:36].std() < pixels[20:28, 28:36].std() / 2
    assert (drawn[:8] == pixels[:8]).all()


def test_frames_are_shrunk_and_never_enlarged() -> None:
    pixels = np.zeros((300, 400, 3), np.uint8)
    assert narrowed(pixels, 160).shape == (120, 160, 3)
    assert narrowed(pixels, 0) is pixels
    assert narrowed(pixels, 800) is pixels
