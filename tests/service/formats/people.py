"""Two people with simple numbers for the tests of formats."""

from __future__ import annotations

import numpy as np

from engines.poses import Poses
from engines.skeletons import COCO_17


def two_people() -> Poses:
    """Person 0 has keypoint k at (10 k + 0.126, 5 k) with score k / 16; person 1 is 100 px to the right, all 0.5."""
    k = np.arange(17, dtype=np.float32)
    first = np.stack([10 * k + np.float32(0.126), 5 * k], axis=1)
    return Poses(
        keypoints=np.stack([first, first + np.array([100, 0])]).astype(np.float32),
        keypoint_scores=np.stack([k / 16, np.full(17, 0.5, np.float32)]),
        boxes=np.array([[0.126, 0.0, 160.126, 80.0], [100.126, 0.0, 260.126, 80.0]], np.float32),
        scores=np.array([0.98765, 0.5], np.float32),
        skeleton=COCO_17,
    )
