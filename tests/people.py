"""People drawn as keypoints, for tests that render what a network would say of them."""

from __future__ import annotations

import numpy as np

from engines.poses import Floats

_STANDING = np.array(
    [
        (0.0, -0.42), (0.025, -0.445), (-0.025, -0.445), (0.05, -0.43), (-0.05, -0.43), (0.11, -0.3), (-0.11, -0.3),
        (0.17, -0.15), (-0.17, -0.15), (0.2, 0.0), (-0.2, 0.0), (0.08, 0.03), (-0.08, 0.03), (0.09, 0.25),
        (-0.09, 0.25), (0.1, 0.47), (-0.1, 0.47),
    ],
    np.float32,
)  # fmt: skip


def standing(x: float, y: float, height: float) -> Floats:
    """Somebody who stands and looks at the camera: COCO's (17, 2) keypoints around x, y in pixels."""
    return (_STANDING * height + (x, y)).astype(np.float32)
