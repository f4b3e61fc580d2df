"""People as keypoints, for tests that draw them or render the outputs of networks."""

from __future__ import annotations

import numpy as np

from engines.poses import Floats

FIGURE = np.array(
    [(0, -0.42), (0.02, -0.44), (-0.02, -0.44), (0.05, -0.43), (-0.05, -0.43), (0.11, -0.30), (-0.11, -0.30),
     (0.15, -0.14), (-0.15, -0.14), (0.16, 0.01), (-0.16, 0.01), (0.07, 0.02), (-0.07, 0.02), (0.08, 0.24),
     (-0.08, 0.24), (0.08, 0.46), (-0.08, 0.46)], np.float32
)  # fmt: skip
"""A person of height 1 who faces the camera, around the middle: COCO's (17, 2) keypoints, x to the right."""


def standing(x: float, y: float, height: float) -> Floats:
    """A standing person who faces the camera: COCO's (17, 2) keypoints around x, y in pixels."""
    return (FIGURE * height + (x, y)).astype(np.float32)
