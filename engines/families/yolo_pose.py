"""YOLO-Pose: an object detector with keypoints for every box (Maji et al., 2022), in the layouts of its exports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engines.families.base import Shapes, dimension
from engines.families.regions import letterbox
from engines.families.whole_frame import WholeFrameFamily, best_boxes, corners
from engines.inputs import Arrays
from engines.poses import Floats, Poses, Region

_ROUNDED_ONE = 1.01  # a score of 1 in half precision
_LAYOUTS = ("columns", "rows", "end-to-end")


@dataclass(kw_only=True, eq=False)
class YOLOPose(WholeFrameFamily):
    """The first output, in input pixels, keypoints as x, y, score, by `layout`:

    "columns": (n, 5 + 3K, A) centre x, y, width, height, score, keypoints (YOLOv8 and YOLO11),
    "rows": (n, A, 6 + 3K) centre x, y, width, height, objectness, class score, keypoints (YOLOv5 and YOLOv7),
    "end-to-end": (n, k, 6 + 3K) x1, y1, x2, y2, score, class, keypoints, duplicates suppressed (YOLO26).

    min_score: people under it are dropped, 0..1. overlap: boxes with a larger IoU are the same person.
    relative: boxes and keypoints are in 0..1 of the input instead of pixels. Exports that divide them by its size may
    divide the scores of the keypoints as well; these are multiplied by it if none of an image's exceeds 1 / size.
    Raises ValueError for an unknown layout.
    """

    layout: str = "columns"
    min_score: float = 0.1
    overlap: float = 0.65
    relative: bool = False

    outputs = None

    def __post_init__(self) -> None:
        if self.layout not in _LAYOUTS:
            raise ValueError(f"layout {self.layout!r} is not one of {', '.join(_LAYOUTS)}")

    def region(self, width: int, height: int) -> Region:
        """The whole frame, centred in the input."""
        return letterbox(width, height, self.pixels.width, self.pixels.height, centred=True)

    def keypoint_count(self, outputs: Shapes) -> float | None:
        """See `HasKeypointCount`."""
        length = dimension(outputs, next(iter(outputs)), 0 if self.layout == "columns" else -1)
        return None if length is None else (length - (5 if self.layout == "columns" else 6)) / 3

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Poses]:
        raw = np.asarray(next(iter(outputs.values())), np.float32)
        return [self._people(rows, region) for rows, region in zip(raw, regions, strict=True)]

    def _people(self, raw: Floats, region: Region) -> Poses:
        rows = raw.T if self.layout == "columns" else raw
        with np.errstate(over="ignore", invalid="ignore"):  # garbage, which is dropped later
            scores = rows[:, 4] * rows[:, 5] if self.layout == "rows" else rows[:, 4]
        likely = np.flatnonzero(scores >= self.min_score)  # a few dozen of thousands
        rows, scores = rows[likely], scores[likely]
        size = np.array([self.pixels.width, self.pixels.height] if self.relative else [1, 1], np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            boxes = (rows[:, :4] if self.layout == "end-to-end" else corners(rows[:, :4])) * np.tile(size, 2)
        best = best_boxes(boxes, scores, self.min_score, self.overlap)
        points = rows[best, -3 * len(self.skeleton) :].reshape(len(best), len(self.skeleton), 3)
        with np.errstate(over="ignore", invalid="ignore"):
            points, sure = points[..., :2] * size, points[..., 2]
            if self.relative and np.max(sure, initial=0) * size.max() <= _ROUNDED_ONE:
                sure = sure * size.max()
        return self._poses(points, sure, scores[best], region, boxes[best])
