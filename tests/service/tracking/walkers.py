"""People for tests that use only tracks: just their positions matter."""

from __future__ import annotations

import numpy as np

from engines.poses import Poses
from engines.skeletons import COCO_17

K = len(COCO_17)


def standing(feet: dict[int, tuple[float, float]], *, height: float = 40.0, score: float = 0.9) -> Poses:
    """A person per id with the feet at x, y pixels: a box half as wide as high, with all keypoints in its middle."""
    at = np.array(list(feet.values()), np.float32).reshape(-1, 2)
    x, y = at.T
    middle = np.stack([x, y - height / 2], axis=1)
    return Poses(
        np.repeat(middle[:, None], K, axis=1).astype(np.float32),
        np.full((len(at), K), score, np.float32),
        np.stack([x - height / 4, y - height, x + height / 4, y], axis=1).astype(np.float32),
        np.ones(len(at), np.float32),
        COCO_17,
        np.array(list(feet), np.int64),
    )
