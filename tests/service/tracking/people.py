"""Poses of people at given positions, for tests that need no pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engines.poses import Frame, Poses
from engines.skeletons import COCO_17, Skeleton
from tests.scenes import texture

HEIGHT = 100.0
"""The height of each person in pixels."""


def people(
    middles: Sequence[tuple[float, float]],
    *,
    scores: float | Sequence[float] = 0.9,
    skeleton: Skeleton = COCO_17,
    keypoint_score: float = 0.9,
) -> Poses:
    """One person around each of `middles`, all in the same posture."""
    posture = np.random.default_rng(len(skeleton)).uniform((-20, -50), (20, 50), (len(skeleton), 2))
    keypoints = (posture + np.reshape(middles, (-1, 1, 2))).astype(np.float32)
    keypoints = keypoints.reshape(-1, len(skeleton), 2)
    boxes = np.concatenate([np.reshape(middles, (-1, 2)) + side for side in ((-22, -52), (22, 52))], axis=1)
    given = np.broadcast_to(np.asarray(scores, np.float32), len(keypoints)).copy()
    each = np.full(keypoints.shape[:2], keypoint_score, np.float32)
    return Poses(keypoints, each, boxes.astype(np.float32), given, skeleton)


def wall(shift: float = 0.0, *, width: int = 320, height: int = 180) -> Frame:
    """A textured frame, moved to the right by `shift` whole pixels."""
    picture = texture(np.random.default_rng(0), height, width + 200).astype(np.uint8)
    start = 100 - int(shift)
    return np.ascontiguousarray(picture[:, start : start + width])
