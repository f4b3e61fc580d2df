"""MoveNet MultiPose, a one-stage model for up to six people (Google, 2021), after the description of its output in
tensorflow.org/hub/tutorials/movenet.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engines.families.whole_frame import WholeFrameFamily, best_boxes, people_in_frame
from engines.inputs import Arrays, PixelInput
from engines.poses import Poses, Region
from engines.skeletons import COCO_17, Skeleton

_BOX = 3 * len(COCO_17)


class MoveNet(WholeFrameFamily):
    """The only output (n, 6, 56): y, x, score of 17 keypoints, then y1, x1, y2, x2, score, in 0..1 of the input.

    min_score: people under it are dropped, 0..1. overlap: boxes with a larger IoU are the same person.
    Raises ValueError for another skeleton than COCO's.
    """

    outputs = None

    def __init__(
        self, pixels: PixelInput, skeleton: Skeleton = COCO_17, *, min_score: float = 0.1, overlap: float = 0.7
    ) -> None:
        if skeleton != COCO_17:
            raise ValueError(f"skeleton {skeleton.name}: MoveNet gives {COCO_17.name}")
        super().__init__(pixels, skeleton)
        self._min_score = min_score
        self._overlap = overlap

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Poses]:
        """See `OneStageModel.decode`."""
        people = []
        size = np.array([self.pixels.width, self.pixels.height], np.float32)
        for rows, region in zip(np.asarray(next(iter(outputs.values())), np.float32), regions, strict=True):
            points = rows[:, :_BOX].reshape(-1, len(COCO_17), 3)
            boxes = (rows[:, _BOX : _BOX + 4].reshape(-1, 2, 2)[..., ::-1] * size).reshape(-1, 4)
            scores = rows[:, _BOX + 4]
            best = best_boxes(boxes, scores, self._min_score, self._overlap)
            parts = points[best][..., 1::-1] * size, points[best][..., 2], scores[best]
            people.append(people_in_frame(*parts, region, self.pixels, self.skeleton, boxes[best]))
        return people
