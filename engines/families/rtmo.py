"""RTMO, a one-stage model with boxes and keypoints of all people (Lu et al., 2024), as MMDeploy exports it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engines.families.whole_frame import WholeFrameFamily, best_boxes, people_in_frame
from engines.inputs import Arrays, PixelInput
from engines.poses import Poses, Region
from engines.skeletons import Skeleton


class RTMO(WholeFrameFamily):
    """Outputs `dets` (n, k, 5) x1, y1, x2, y2, score and `keypoints` (n, k, K, 3) x, y, score, in input pixels.

    min_score: people under it are dropped, 0..1. overlap: boxes with a larger IoU are the same person; the graph itself
    suppresses duplicates with a loose threshold.
    """

    outputs = ("dets", "keypoints")

    def __init__(
        self, pixels: PixelInput, skeleton: Skeleton, *, min_score: float = 0.1, overlap: float = 0.45
    ) -> None:
        super().__init__(pixels, skeleton)
        self._min_score = min_score
        self._overlap = overlap

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Poses]:
        """See `OneStageModel.decode`."""
        people = []
        dets, keypoints = (np.asarray(outputs[name], np.float32) for name in self.outputs)
        for rows, points, region in zip(dets, keypoints, regions, strict=True):
            best = best_boxes(rows[:, :4], rows[:, 4], self._min_score, self._overlap)
            rows, points = rows[best], points[best]
            parts = points[..., :2], points[..., 2], rows[:, 4]
            people.append(people_in_frame(*parts, region, self.pixels, self.skeleton, rows[:, :4]))
        return people
