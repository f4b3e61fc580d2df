"""RTMO, a one-stage model with boxes and keypoints of all people (Lu et al., 2024), as MMDeploy exports it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engines.families.base import Shapes, dimension
from engines.families.whole_frame import WholeFrameFamily, best_boxes
from engines.inputs import Arrays
from engines.poses import Poses, Region


@dataclass(kw_only=True, eq=False)
class RTMO(WholeFrameFamily):
    """Outputs `dets` (n, k, 5) x1, y1, x2, y2, score and `keypoints` (n, k, K, 3) x, y, score, in input pixels.

    min_score: people under it are dropped, 0..1. overlap: boxes with a larger IoU are the same person; the graph itself
    suppresses duplicates with a loose threshold.
    """

    min_score: float = 0.1
    overlap: float = 0.45

    outputs = ("dets", "keypoints")

    def keypoint_count(self, outputs: Shapes) -> float | None:
        """See `HasKeypointCount`."""
        return dimension(outputs, "keypoints", -2)

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Poses]:
        people = []
        dets, keypoints = (np.asarray(outputs[name], np.float32) for name in self.outputs)
        for rows, points, region in zip(dets, keypoints, regions, strict=True):
            best = best_boxes(rows[:, :4], rows[:, 4], self.min_score, self.overlap)
            rows, points = rows[best], points[best]
            people.append(self._poses(points[..., :2], points[..., 2], rows[:, 4], region, rows[:, :4]))
        return people
