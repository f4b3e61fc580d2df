"""YOLO-Pose: an object detector with keypoints for every box (Maji et al., 2022), in the layouts of its exports."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engines.families.regions import letterbox
from engines.families.whole_frame import WholeFrameFamily, best_boxes, corners, people_in_frame
from engines.inputs import Arrays, PixelInput
from engines.poses import Floats, Poses, Region
from engines.skeletons import Skeleton

_LAYOUTS = ("columns", "rows", "end-to-end")


class YOLOPose(WholeFrameFamily):
    """The first output, in input pixels, keypoints as x, y, score, by `layout`:

    "columns": (n, 5 + 3K, A) centre x, y, width, height, score, keypoints (YOLOv8 and YOLO11),
    "rows": (n, A, 6 + 3K) centre x, y, width, height, objectness, class score, keypoints (YOLOv5 and YOLOv7),
    "end-to-end": (n, k, 6 + 3K) x1, y1, x2, y2, score, class, keypoints, duplicates suppressed (YOLO26).

    min_score: people under it are dropped, 0..1. overlap: boxes with a larger IoU are the same person.
    Raises ValueError for an unknown layout.
    """

    outputs = None

    def __init__(
        self,
        pixels: PixelInput,
        skeleton: Skeleton,
        *,
        layout: str = "columns",
        min_score: float = 0.1,
        overlap: float = 0.65,
    ) -> None:
        if layout not in _LAYOUTS:
            raise ValueError(f"layout {layout!r} is not one of {', '.join(_LAYOUTS)}")
        super().__init__(pixels, skeleton)
        self._layout = layout
        self._min_score = min_score
        self._overlap = overlap

    def region(self, width: int, height: int) -> Region:
        """See `OneStageModel.region`: the whole frame, centred in the input."""
        return letterbox(width, height, self.pixels.width, self.pixels.height, centred=True)

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Poses]:
        """See `OneStageModel.decode`."""
        raw = np.asarray(next(iter(outputs.values())), np.float32)
        return [self._people(rows, region) for rows, region in zip(raw, regions, strict=True)]

    def _people(self, raw: Floats, region: Region) -> Poses:
        rows = raw.T if self._layout == "columns" else raw
        with np.errstate(over="ignore", invalid="ignore"):  # garbage, which is dropped later
            scores = rows[:, 4] * rows[:, 5] if self._layout == "rows" else rows[:, 4]
        likely = np.flatnonzero(scores >= self._min_score)  # a few dozen of thousands
        rows, scores = rows[likely], scores[likely]
        boxes = rows[:, :4] if self._layout == "end-to-end" else corners(rows[:, :4])
        best = best_boxes(boxes, scores, self._min_score, self._overlap)
        points = rows[best, -3 * len(self.skeleton) :].reshape(len(best), len(self.skeleton), 3)
        parts = points[..., :2], points[..., 2], scores[best]
        return people_in_frame(*parts, region, self.pixels, self.skeleton, boxes[best])
