"""MoveNet MultiPose, a one-stage model for up to six people (Google, 2021), after the description of its output in
tensorflow.org/hub/tutorials/movenet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engines.families.whole_frame import WholeFrameFamily, best_boxes
from engines.inputs import Arrays
from engines.poses import Poses, Region
from engines.skeletons import COCO_17

_BOX = 3 * len(COCO_17)


@dataclass(kw_only=True, eq=False)
class MoveNet(WholeFrameFamily):
    """The only output (n, 6, 56): y, x, score of 17 keypoints, then y1, x1, y2, x2, score, in 0..1 of the input.

    min_score: people under it are dropped, 0..1. overlap: boxes with a larger IoU are the same person.
    Raises ValueError for another skeleton than COCO's.
    """

    min_score: float = 0.1
    overlap: float = 0.7

    outputs = None

    def __post_init__(self) -> None:
        if self.skeleton != COCO_17:
            raise ValueError(f"skeleton {self.skeleton.name}: MoveNet gives {COCO_17.name}")

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Poses]:
        people = []
        size = np.array([self.pixels.width, self.pixels.height], np.float32)
        for rows, region in zip(np.asarray(next(iter(outputs.values())), np.float32), regions, strict=True):
            points = rows[:, :_BOX].reshape(-1, len(COCO_17), 3)
            boxes = (rows[:, _BOX : _BOX + 4].reshape(-1, 2, 2)[..., ::-1] * size).reshape(-1, 4)
            scores = rows[:, _BOX + 4]
            best = best_boxes(boxes, scores, self.min_score, self.overlap)
            positions, sure = points[best][..., 1::-1] * size, points[best][..., 2]
            people.append(self._poses(positions, sure, scores[best], region, boxes[best]))
        return people
