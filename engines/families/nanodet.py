"""NanoDet, a small detector (RangiLyu, 2020) with the head of Generalized Focal Loss (Li et al., 2020): the distance
from a point to each side of a box is the mean of a distribution over bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.families.whole_frame import WholeFrameDetector, best_boxes
from engines.inputs import Arrays
from engines.poses import Detections, Floats, Region

_STRIDES = (8, 16, 32)


@lru_cache(maxsize=8)
def _points(width: int, height: int) -> Floats:
    """The points of all grids: (A, 3) x, y in input pixels, and stride. A cell's point is the middle of its pixels."""
    layers = []
    for stride in _STRIDES:
        y, x = np.mgrid[0 : height // stride, 0 : width // stride] * stride + (stride - 1) / 2
        layers.append(np.stack([x.ravel(), y.ravel(), np.full(x.size, stride)], axis=-1))
    points = np.concatenate(layers).astype(np.float32)
    points.flags.writeable = False
    return points


@dataclass(kw_only=True, eq=False)
class NanoDet(WholeFrameDetector):
    """Two outputs for each of three grids: (n, points, classes) scores in 0..1, and (n, points, 4 x bins) logits.

    They are told apart by their shapes. The sides of a box are left, top, right, bottom, their bins strides apart.
    person: the index of the class. bins: of the distance to a side. min_score: detections under it are dropped, 0..1.
    overlap: boxes with a larger IoU are the same person. Raises ValueError for an input whose sides are not multiples
    of 32.
    """

    person: int = 0
    bins: int = 11
    min_score: float = 0.3
    overlap: float = 0.6

    outputs = None

    def __post_init__(self) -> None:
        width, height = self.pixels.width, self.pixels.height
        if width % _STRIDES[-1] or height % _STRIDES[-1]:
            raise ValueError(f"input {width} x {height}: its sides must be multiples of {_STRIDES[-1]}")

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Detections]:
        sides = [output for output in outputs.values() if output.shape[-1] == 4 * self.bins]
        scores = [output[..., self.person] for output in outputs.values() if output.shape[-1] != 4 * self.bins]
        points = _points(self.pixels.width, self.pixels.height)
        found = []
        for logits, score, region in zip(_joined(sides, points), _joined(scores, points), regions, strict=True):
            likely = np.flatnonzero(score >= self.min_score)
            boxes = self._boxes(logits[likely], points[likely])
            best = best_boxes(boxes, score[likely], self.min_score, self.overlap)
            found.append(self._detections(boxes[best], score[likely][best], region))
        return found

    def _boxes(self, logits: Floats, points: Floats) -> Floats:
        """Boxes (k, 4) x1, y1, x2, y2 in input pixels, from (k, 4 x bins) logits at points (k, 3)."""
        with np.errstate(over="ignore", invalid="ignore"):  # garbage, which is dropped later
            raised = logits.reshape(-1, 4, self.bins)
            weights = np.exp(raised - raised.max(axis=-1, keepdims=True))
            bins = np.arange(self.bins, dtype=np.float32)
            distances = weights @ bins / weights.sum(axis=-1) * points[:, 2:]
        return np.concatenate([points[:, :2] - distances[:, :2], points[:, :2] + distances[:, 2:]], axis=1)


def _joined(grids: Sequence[NDArray[Any]], points: Floats) -> Floats:
    """The values (n, A, ...) at all points, from those of each grid. Raises ValueError for another number of points."""
    finest_first = sorted(grids, key=lambda grid: -grid.shape[1])
    joined = np.concatenate(finest_first, axis=1, dtype=np.float32) if grids else np.zeros((0, 0), np.float32)
    if joined.shape[1] != len(points):
        raise ValueError(f"the outputs have {joined.shape[1]} points where the grids of the input have {len(points)}")
    return joined
