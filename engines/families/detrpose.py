"""DETRPose, a transformer that finds all people and their keypoints (Janampa and Pattichis, 2025), as its authors
export it: no duplicates, and no boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engines.families.base import Shapes, dimension
from engines.families.whole_frame import MAX_SCORE, WholeFrameFamily
from engines.inputs import Arrays
from engines.poses import Poses, Region


@dataclass(kw_only=True, eq=False)
class DETRPose(WholeFrameFamily):
    """Outputs `scores` (n, k), `labels` (n, k) and `keypoints` (n, k, K, 2) x, y, in input pixels.

    The graph's second input, the size in pixels that it scales keypoints to, is made a constant: see
    `engines.runtimes`. It gives keypoints no scores; each has that of its person. Its input shows the frame stretched,
    as in its training.
    person: the label of people. min_score: people under it are dropped, 0..1.
    """

    person: int = 1
    min_score: float = 0.1

    outputs = ("scores", "labels", "keypoints")

    def region(self, width: int, height: int) -> Region:
        """The whole frame, stretched to the input."""
        return Region(width / 2, height / 2, width, height)

    def keypoint_count(self, outputs: Shapes) -> float | None:
        """See `HasKeypointCount`."""
        return dimension(outputs, "keypoints", -2)

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Poses]:
        scores, keypoints = (np.asarray(outputs[name], np.float32) for name in ("scores", "keypoints"))
        likely = (outputs["labels"] == self.person) & (scores >= self.min_score) & (scores <= MAX_SCORE)
        found = []
        for score, points, rows, region in zip(scores, keypoints, likely, regions, strict=True):
            sure = np.repeat(score[rows, None], len(self.skeleton), axis=1)
            found.append(self._poses(points[rows], sure, score[rows], region))
        return found
